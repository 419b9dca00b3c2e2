"""For mkdocs: `<!-- all: FOLDER -->` in a page stands for every Markdown file of that folder, in order of name.

A block below `<!-- file: NAME -->` has the name above it.

Beside the pages, `llms.txt` is written (https://llmstxt.org): what the pages are about and where they are, for programs
that read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Address → first words of each page of the site that is being built.
_ABOUT: dict[str, str] = {}
#: Its navigation.
_NAV: list[Any] = []


def on_page_markdown(markdown: str, page: Any = None, **_: Any) -> str:
    """Put the files in place of the mark, and names above blocks that are files."""
    if page is not None:
        _ABOUT[page.url] = first_words(markdown)
    markdown = re.sub(r"^<!-- file: (\S+) -->\n```(\w+)$", r'```\2 title="\1"', markdown, flags=re.M)
    return re.sub(r"<!-- all: (\S+) -->", lambda mark: gathered(mark[1]), markdown)


def on_nav(nav: Any, **_: Any) -> Any:
    """Keep the order of the pages for `on_post_build`."""
    _NAV[:] = nav.items
    return nav


def on_post_build(config: Any, **_: Any) -> None:
    """Write `llms.txt`."""
    text = index(str(config["site_name"]), str(config["site_description"]), sections(_NAV))
    (Path(config["site_dir"]) / "llms.txt").write_text(text, encoding="utf-8")


def sections(items: Any, title: str = "Pages") -> dict[str, list[tuple[str, str, str]]]:
    """Title of each section of the navigation → title, address and first words of its pages."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for item in items:
        if item.is_section:
            found.update(sections(item.children, item.title))
        elif item.is_page:
            found.setdefault(title, []).append((str(item.title), item.url, _ABOUT.get(item.url, "")))
    return found


def index(name: str, about: str, pages: dict[str, list[tuple[str, str, str]]]) -> str:
    """The text of `llms.txt`."""
    lines = [f"# {name}", "", f"> {about}"]
    for title, listed in pages.items():
        lines += ["", f"## {title}", ""]
        lines += [f"- [{page}]({address}){': ' if words else ''}{words}" for page, address, words in listed]
    return "\n".join(lines) + "\n"


def first_words(markdown: str) -> str:
    """The first sentence of a page's first paragraph."""
    for part in re.split(r"\n\s*\n", markdown):
        text = " ".join(part.split())
        if text and not text.startswith(("#", "<", "!", "|", "```", "[", "-", ":::", "--8<--")):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
            return re.split(r"(?<=[.!?:]) ", plain)[0].rstrip(":")
    return ""


def gathered(folder: str) -> str:
    """The files of a folder as one text; their titles become headings of the page."""
    parts = []
    for path in sorted((ROOT / folder).glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if not text.startswith("# "):
            text = f"# {path.stem.capitalize()}\n\n{text}"
        parts.append(re.sub(r"^(#+ )", r"#\1", text, flags=re.M) if "```" not in text else text)
    return "\n\n".join(parts)
