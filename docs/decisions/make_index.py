"""Write README.md beside this: every decision with the day on which its heading was written. `python make_index.py`"""

from __future__ import annotations

import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT = """# Decisions

What was to be decided, what was chosen, on which figures, and what would change it; a file for each part of it,
a heading for each decision. They are for those who change the code, and not a part of the site. This list is made by
`python docs/decisions/make_index.py`.

| day | decision | file |
|---|---|---|
"""


def main() -> None:
    """The newest stand first."""
    rows = []
    for path in sorted(HERE.glob("*.md")):
        if path.name != "README.md":
            blame = subprocess.run(
                ["git", "blame", "--date=short", "-s", "--line-porcelain", path.name],
                cwd=HERE, capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            rows += [(day, heading, path.name) for day, heading in headings(blame)]
    rows.sort(key=lambda row: (row[0], row[2]), reverse=True)
    lines = [f"| {day} | [{title}]({name}#{anchor(title)}) | {name} |" for day, title, name in rows]
    (HERE / "README.md").write_text(TEXT + "\n".join(lines) + "\n", encoding="utf-8")


def headings(blame: str) -> list[tuple[str, str]]:
    """(day, heading) of a file as `git blame` tells it; the title counts where there are no others."""
    found: list[tuple[str, str, str]] = []
    day = ""
    for line in blame.splitlines():
        if line.startswith("committer-time "):
            day = datetime.fromtimestamp(int(line.split()[1]), timezone.utc).date().isoformat()
        elif match := re.match(r"\t(#{1,2}) (.+)", line):
            found.append((match[1], day, match[2]))
    inner = [(day, title) for marks, day, title in found if marks == "##"]
    return inner or [(day, title) for _, day, title in found]


def anchor(title: str) -> str:
    """As code hosts make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    main()
