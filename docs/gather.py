"""For mkdocs: `<!-- all: FOLDER -->` in a page stands for every Markdown file of that folder, in order of name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the files in place of the mark."""
    return re.sub(r"<!-- all: (\S+) -->", lambda mark: gathered(mark[1]), markdown)


def gathered(folder: str) -> str:
    """The files of a folder as one text; their titles become headings of the page."""
    parts = []
    for path in sorted((ROOT / folder).glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if not text.startswith("# "):
            text = f"# {path.stem.capitalize()}\n\n{text}"
        parts.append(re.sub(r"^(#+ )", r"#\1", text, flags=re.M) if "```" not in text else text)
    return "\n\n".join(parts)
