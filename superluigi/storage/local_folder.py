"""Folders on local disks as locations: staged beside the destination, swapped in one step.

Where the kernel can exchange two names the swap is one system call; else it is two renames that a journal
makes recoverable. The old tree is removed after the new one is visible.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from superluigi import config, graph
from superluigi.errors import OutputNotWrittenError, TargetKindError
from superluigi.storage import atomic, copying, staging
from superluigi.storage.base import Record, record_text
from superluigi.storage.local import PENDING_SUFFIX, LocalLocation
from superluigi.storage.local_staged import LocalStaged
from superluigi.storage.steps import step


class FolderLocation(LocalLocation):
    """One local folder with all it holds; its record stands beside it, or inside on request."""

    kind = "LocalFolderTarget"
    other_kind = "LocalFileTarget"

    def __init__(self, path: Path, record_path: Path | None = None, contents_limit: int = 10) -> None:
        super().__init__(path, record_path)
        self.contents_limit = contents_limit

    @property
    def record_inside(self) -> str | None:
        """The record's place relative to the folder, if it is inside."""
        try:
            return self.record_path.relative_to(self.path).as_posix()
        except ValueError:
            return None

    def fits(self, status: os.stat_result) -> bool:
        return stat.S_ISDIR(status.st_mode)

    def identity(self, path: Path) -> Record:
        status = os.stat(path)
        size, count, newest = 0, 0, status.st_mtime_ns  # `prepare` stamps the folder: no two commits share a time
        for item in self._items(path):
            count += 1
            if item.is_file(follow_symlinks=False):
                file = item.stat(follow_symlinks=False)
                size += file.st_size
                newest = max(newest, file.st_mtime_ns)
        return {"size": size, "count": count, "mtime_ns": newest, "inode": status.st_ino}

    def content(self, path: Path) -> Record:
        status = os.stat(path)
        contents = [_content_item(item, len(str(path)) + 1) for item in self._items(path)]
        newest = max((item.pop("mtime_ns") for item in contents if "mtime_ns" in item), default=0)
        contents.sort(key=lambda item: str(item["path"]))
        return {
            "size": sum(item.get("size", 0) for item in contents),
            "count": len(contents),
            "mtime_ns": max(newest, status.st_mtime_ns),
            "inode": status.st_ino,
            "digest": {"sha256": graph.digest(contents)},
            "contents": contents[: self.contents_limit],
        }

    def copy(self, destination: Path) -> None:
        for _ in range(100):
            held = os.open(self.final, os.O_RDONLY | os.O_DIRECTORY)  # keeps the inode number from being used again
            try:
                inode = os.fstat(held).st_ino
                copying.copy_tree(self.final, destination, staging.is_ours)
                if os.stat(self.final).st_ino == inode:
                    break
            except FileNotFoundError:  # swapped and removed under us
                if not self.exists():
                    raise
            finally:
                os.close(held)
            copying.remove_tree(destination)
        if self.record_inside:
            (destination / self.record_inside).unlink(missing_ok=True)

    def _recover_swap(self) -> bool:
        """Finish a swap by two renames that a dead writer left between them; True if there was one."""
        final = self.final
        journal = staging.swap_journal(final)
        if not os.path.lexists(journal):
            return False
        with contextlib.suppress(FileNotFoundError), self._locked():
            staged = final.with_name(json.loads(journal.read_text()))
            for whole in (staged, _aside(staged)):
                if not os.path.lexists(final) and os.path.lexists(whole):
                    atomic.replace(whole, final)
            step("drop journal")
            journal.unlink()
        return True

    def _items(self, root: Path) -> Iterator[os.DirEntry[str]]:
        """Files, links and empty folders below `root`; neither staging folders nor our own record."""
        hidden = self.record_inside and {
            str(root / self.record_inside),
            str(root / self.record_inside) + PENDING_SUFFIX,
        }
        waiting = [str(root)]
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if staging.is_ours(entry.name) or (hidden and entry.path in hidden):
                        continue
                    if entry.is_dir(follow_symlinks=False) and not _is_empty(entry.path):
                        waiting.append(entry.path)
                    else:
                        yield entry

    def _staged(self, made: list[Path]) -> LocalStaged:
        staged = StagedFolder(self, made)
        step("make staging folder")
        staged.path.mkdir()
        return staged


class StagedFolder(LocalStaged):
    """A folder being filled in a staging folder beside its destination."""

    location: FolderLocation

    def commit(self, record: Record | None) -> Record | None:
        inside = self.location.record_inside
        if record is None or inside is None:
            return super().commit(record)
        output = self.prepare()
        record = {**record, "output": output}
        with atomic.explained("publish", self.location.path):
            place = self.path / inside
            step("write record inside")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(record_text(record), encoding="utf-8")
            if config.get("durable"):
                atomic.flush_file(place)
                atomic.flush_folder(place.parent)
            os.utime(self.path, ns=(output["mtime_ns"],) * 2)
            self.location._stat()
            with atomic.locked(self.final.parent):
                self._swap()
                if config.get("durable"):
                    atomic.flush_folder(self.final.parent)
        self._finished()
        return record

    def _finished(self) -> None:
        super()._finished()
        step("remove replaced folder")
        copying.remove_tree(self.path)  # after an exchange, the old tree has this name

    def _publish(self, record: Record | None) -> None:
        if record is None and self.location.record_inside:
            self._swap()
        else:
            super()._publish(record)

    def _swap(self) -> None:
        final = self.final
        if not final.exists():
            atomic.replace(self.path, final)
        elif not atomic.exchange(self.path, final):
            self._swap_by_two_renames(final)

    def _swap_by_two_renames(self, final: Path) -> None:
        """Where names cannot be exchanged the output is absent between two renames; the journal lets
        whoever comes next finish them (`LocalLocation._recover_swap`)."""
        journal, aside = staging.swap_journal(final), _aside(self.path)
        try:
            step("write journal")
            journal.write_text(json.dumps(self.path.name))
            if config.get("durable"):
                atomic.flush_file(journal)
                atomic.flush_folder(journal.parent)
            atomic.replace(final, aside)
            atomic.replace(self.path, final)
        except BaseException:
            if not final.exists() and aside.exists():
                atomic.replace(aside, final)
            raise
        finally:
            journal.unlink(missing_ok=True)
        copying.remove_tree(aside)

    def _is_much(self) -> bool:
        return True

    def _flush(self) -> None:
        atomic.flush_tree(self.path)

    def _check(self) -> None:
        self._check_other_files()
        if not self.path.is_dir():
            raise TargetKindError(
                f"A file was written to output_path, but the output {self.location.path} is a LocalFolderTarget: "
                "output_path is an existing empty folder. Write into it, or use LocalFileTarget."
            )
        if next(self.location._items(self.path), None) is None:
            raise OutputNotWrittenError(
                f"Nothing was written into the folder output_path for {self.location.path}; it is empty. "
                "Write at least one file into it."
            )


def _aside(staged: Path) -> Path:
    """Where the old folder waits between two renames; the name of its new one, so that it is swept like it."""
    return staged.with_name(staged.name + ".replaced")


def _is_empty(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _content_item(entry: os.DirEntry[str], cut: int) -> Record:
    """One file, link or empty folder; of files also `mtime_ns`, which is no part of the contents."""
    path = entry.path[cut:].replace(os.sep, "/")
    if entry.is_symlink():
        return {"path": path, "link": os.readlink(entry.path)}
    if entry.is_dir():
        return {"path": path + "/"}
    digest, status = copying.digested(entry.path)
    return {"path": path, "size": status.st_size, "digest": {"sha256": digest}, "mtime_ns": status.st_mtime_ns}
