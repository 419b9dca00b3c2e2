"""For mkdocs: every link of the built site leads somewhere, also those of HTML and docstrings; else the build fails."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mkdocs.exceptions import PluginError


class _Page(HTMLParser):
    """The names that links can lead to, and the links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names = {"", "__toc"}
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id" or (tag == "a" and key == "name"):
                self.names.add(value or "")
            elif (key == "href" and tag == "a") or (key == "src" and tag == "img"):
                self.links.append(value or "")


def on_post_build(config: Mapping[str, Any], **_: Any) -> None:
    """Look at all pages.

    Raises:
        PluginError: names each page with a link that leads nowhere.
    """
    site = Path(config["site_dir"])
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    broken = [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for link in page.links
        if _leads_nowhere(path, link, pages)
    ]
    if broken:
        raise PluginError("links that lead nowhere:\n" + "\n".join(sorted(set(broken))))


def _leads_nowhere(page: Path, link: str, pages: Mapping[Path, _Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False  # elsewhere: nothing is fetched by a build
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if target not in pages:
        return not target.is_file()
    return unquote(parts.fragment) not in pages[target].names
