"""Text written to and read from an output of any kind: a file or object, or one file in a folder or prefix."""

from __future__ import annotations

from superluigi.targets.base import AtomicTarget


def write(target: AtomicTarget, text: str) -> None:
    with target.tmp_write_path() as path:
        (path / "part" if path.is_dir() else path).write_text(text)


def read(target: AtomicTarget) -> str:
    with target.tmp_read_path(force_local_download=True) as path:
        return (path / "part" if path.is_dir() else path).read_text()
