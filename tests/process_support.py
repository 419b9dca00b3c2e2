"""What processes leave behind, looked at from outside."""

from __future__ import annotations

import os
from pathlib import Path

from superluigi.storage import owner_token


def alive_in(folder: Path) -> list[str]:
    """The command lines of processes whose working folder is `folder`: a script there, and all that it started."""
    found = []
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        try:
            state = owner_token.state_and_more(int(cwd.parent.name))[0]
            if state not in "ZX" and os.readlink(cwd) == str(folder):
                found.append((cwd.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
