"""Write the index of the decisions: `python docs/decisions/make_index.py`. The day stands in each file."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
INTRO = """# Decisions

What was to be decided, what was chosen, on which figures, and what would change it: one file each, in the folder of its
part. They are for those who change the code, and not a part of the site. This list is made by
`python docs/decisions/make_index.py`. Several decisions share a file in `face.md` and `proofs.md`, which are tables and
pictures; `libraries.md` is the table of what we stand on.
"""


def main() -> None:
    """Write README.md anew."""
    lines = [INTRO]
    for folder in sorted(path for path in HERE.iterdir() if path.is_dir()):
        found = [(*_said(path), path.name) for path in folder.glob("*.md")]
        if found:
            lines.append(f"\n## {folder.name.replace('-', ' ').capitalize()}\n")
            lines += [f"- {day}: [{title}]({folder.name}/{name})" for day, title, name in sorted(found)]
    (HERE / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _said(path: Path) -> tuple[str, str]:
    """The day and the title of a decision."""
    text = path.read_text(encoding="utf-8")
    title, day = re.search(r"^# (.+)$", text, re.M), re.search(r"^Decided (\S+)\.$", text, re.M)
    if title is None or day is None:
        raise SystemExit(f"{path} needs a title and a line 'Decided <year>-<month>-<day>.'")
    return day[1], title[1]


if __name__ == "__main__":
    main()
