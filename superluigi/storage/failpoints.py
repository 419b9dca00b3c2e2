"""A place to stand between two storage operations: tests stop a commit there, by exception or by death."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the name of every storage operation just before it; None in normal life.
hook: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """Say that the operation `name` comes next."""
    if hook is not None:
        hook(name)
