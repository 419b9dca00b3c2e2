"""What a task prints, in `stdout.log` and `stderr.log` of its folder while it prints it.

In a process of the attempt's own the descriptors 1 and 2 are turned to the files, so that C libraries and child
processes are in them as well. Where attempts share a process, `sys.stdout` and `sys.stderr` pass on what is
written and keep a copy for the attempt whose thread wrote it; the files are then made with the first line. What threads
print that a task has started is its own as long as it runs alone in the process; else it cannot be told whose it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from superluigi.errors import StorageAccessError
from superluigi.execution.process.streams import flush
from superluigi.runs import tracebacks
from superluigi.tasks.runtime import attempt_context as scopes
from superluigi.tasks.runtime.attempt_context import AttemptContext
from superluigi.tasks.runtime.hooks import class_attr
from superluigi.tasks.runtime.workspace import log_pool
from superluigi.tasks.runtime.workspace.task_folder import STDERR, STDOUT, about, cannot_be_made, place_of, workspace

_NAMES = (STDOUT, STDERR)


_writers: weakref.WeakSet[LogWriter] = weakref.WeakSet()


class LogWriter:
    """The log files of one attempt, opened when something is written."""

    def __init__(self, scope: AttemptContext) -> None:
        self._scope = scope
        self._files: list[int] = []
        self._guard = threading.RLock()
        self._broken = False
        _writers.add(self)

    def write(self, stream: int, data: bytes) -> None:
        """Append to stdout.log (0) or stderr.log (1); a log that cannot be written must not fail the task."""
        if not data:
            return
        try:
            with self._guard:
                if self._broken:  # or closed
                    return
                if not self._files:
                    self._files = [self._scope.folder.open_log(name) for name in _NAMES]
                os.write(self._files[stream], data)  # here: once it is closed, its number is another file's
        except OSError as error:
            self._broken = True
            _complain(error)

    def forked(self) -> None:
        """In a forked child, where another thread may have been writing."""
        self._guard = threading.RLock()

    def close(self) -> None:
        """Close the files; what is written afterwards is not kept."""
        with self._guard:
            self._broken = True
            while self._files:
                os.close(self._files.pop())


def _forked() -> None:
    for writer in list(_writers):
        writer.forked()


os.register_at_fork(after_in_child=_forked)


#: Workspaces, each with its process, of which it has been told that they keep nothing.
_told: set[tuple[Path, int]] = set()


def _complain(error: OSError) -> None:
    """Once for a workspace, however many tasks print."""
    known = (workspace(), os.getpid())
    if known not in _told:
        _told.add(known)
        if not isinstance(error, StorageAccessError):  # a full disk, say
            error = cannot_be_made(workspace(), error)
        warnings.warn(f"What tasks print cannot be kept: {error}", RuntimeWarning, stacklevel=3)


class captured:  # noqa: N801 - used like a function, around every attempt
    """Keep what the attempt prints while the block runs, and the traceback of what ends it."""

    def __init__(self, scope: AttemptContext) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._way: AbstractContextManager[None] = (
            _descriptors_to_files(self._scope) if self._scope.own_process else _streams_copied(self._scope)
        )
        self._way.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and not isinstance(error, GeneratorExit):  # that waits for a requirement, that is all
                note(self._scope, tracebacks.text_of(error))
        finally:
            self._way.__exit__(kind, error, trace)


def note(scope: AttemptContext, text: str) -> None:
    """Add a text to stderr.log of an attempt whose output is captured, and to nothing else."""
    if scope.own_process:
        flush()
        with contextlib.suppress(OSError):
            file = scope.folder.open_log(STDERR)
            os.write(file, _encoded(text))
            os.close(file)
    elif scope.sink is not None:
        scope.sink.write(1, _encoded(text))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


# ---- a process of the attempt's own


@contextlib.contextmanager
def _descriptors_to_files(scope: AttemptContext) -> Iterator[None]:
    flush()
    # Children that are Python programs would keep their lines until they end.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    before = [os.dup(1), os.dup(2)]
    try:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_in_folder(scope) if _has_folder(scope) else _in_pool(scope))
            except StorageAccessError as error:  # as in a process that attempts share
                _complain(error)
            yield
    finally:
        flush()
        for descriptor, file in enumerate(before, start=1):
            os.dup2(file, descriptor)
            os.close(file)


def _has_folder(scope: AttemptContext) -> bool:
    given = scope.given_folder is not None or class_attr(scope.task, "resumable")
    return bool(given) or os.path.isdir(place_of(scope.task))


def _turn(files: list[int]) -> None:
    for descriptor, file in enumerate(files, start=1):
        os.dup2(file, descriptor)


@contextlib.contextmanager
def _in_folder(scope: AttemptContext) -> Iterator[None]:
    files = [scope.folder.open_log(name) for name in _NAMES]
    try:
        _turn(files)
    finally:
        for file in files:
            os.close(file)
    yield


@contextlib.contextmanager
def _in_pool(scope: AttemptContext) -> Iterator[None]:
    """What the attempt prints goes into the spare files of this process until it has a folder."""
    with scope.guard:  # the supervisor must not move them before they are in use, nor once the next attempt has them
        try:
            spare = log_pool.acquire()
            spare.begin(about(scope.task, scope.run))
        except OSError as error:
            raise cannot_be_made(place_of(scope.task), error) from error
        _turn(spare.descriptors)
        scope.spare = spare
    try:
        yield
    finally:
        flush()
        with scope.guard:
            if scope.folder_if_any is None and not spare.is_empty:
                keep(scope)
            if scope.folder_if_any is None:
                spare.end()
            scope.spare = None


def keep_if_spare(scope: AttemptContext) -> None:
    """`keep`, if what the attempt prints is in spare files now: for other threads than its own."""
    with scope.guard:
        if scope.spare is not None:
            keep(scope)


def keep(scope: AttemptContext) -> None:
    """Have a folder for what an attempt prints, if that is possible; a full disk must not fail the task."""
    try:
        scope.folder  # noqa: B018
    except StorageAccessError as error:
        _complain(error)


# ---- a process that attempts share


class TeeStream:
    """Stands for `sys.stdout` or `sys.stderr`: passes on what is written, and copies it to its attempt's log.

    A stream that is closed, full, or read by nobody any more fails no task: its log has what it said.
    """

    def __init__(self, original: Any, stream: int) -> None:
        self._original = original
        self._stream = stream

    def write(self, text: str) -> int:
        """As the original's."""
        _copy(self._stream, _encoded(text))
        return _passed_on(self._original, text)

    def writelines(self, lines: Any) -> None:
        """As the original's."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As the original's."""
        _flushed(self._original)

    @property
    def buffer(self) -> Any:
        """The original's binary stream, copied as well while an attempt uses it."""
        return _CopyingBytes(self._original.buffer, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._original)


class _CopyingBytes:
    def __init__(self, original: Any, stream: int) -> None:
        self._original = original
        self._stream = stream

    def write(self, data: Any) -> int:
        _copy(self._stream, bytes(data))
        return _passed_on(self._original, data)

    def flush(self) -> None:
        """As the original's."""
        _flushed(self._original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _passed_on(original: Any, data: Any) -> int:
    try:
        return len(data) if _is_closed(original) else int(original.write(data) or 0)
    except OSError:
        return len(data)


def _flushed(original: Any) -> None:
    with contextlib.suppress(OSError):
        if not _is_closed(original):
            original.flush()


def _is_closed(stream: Any) -> bool:
    return stream is None or getattr(stream, "closed", False) is True


def _copy(stream: int, data: bytes) -> None:
    scope = scopes.current()
    if scope is not None and scope.sink is not None:
        scope.sink.write(stream, data)


class _Copying:
    """Has streams that copy stand for `sys.stdout` and `sys.stderr` for as long as they have users."""

    def __init__(self) -> None:
        self._users = 0
        self._guard = threading.Lock()
        self._installed: list[TeeStream] = []

    def begin(self) -> None:
        with self._guard:
            self._users += 1
            # Others may have put a stream of their own there since: stand before that one.
            if self._users == 1 or sys.stdout is not self._installed[0]:
                self._restore()
                self._installed = [_copying(sys.stdout, 0), _copying(sys.stderr, 1)]
                _redirect_handlers(self._installed)
                sys.stdout, sys.stderr = self._installed

    def end(self) -> None:
        with self._guard:
            self._users -= 1
            if self._users == 0:
                self._restore()
                self._installed = []

    def _restore(self) -> None:
        if not self._installed:
            return
        out, err = self._installed
        if sys.stdout is out:
            sys.stdout = out._original
        if sys.stderr is err:
            sys.stderr = err._original
        for handler in _stream_handlers():
            if handler.stream in (out, err):
                handler.stream = handler.stream._original


_copies = _Copying()


class _streams_copied:  # noqa: N801 - used like a function
    def __init__(self, scope: AttemptContext) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._scope.sink = LogWriter(self._scope)
        _copies.begin()

    def __exit__(self, *exc_info: object) -> None:
        try:
            _copies.end()
        finally:
            self._scope.sink.close()


#: Until Python 3.14 `print` uses `sys.stdout` without holding it: one freed meanwhile by another thread's swap
#: crashes the interpreter. So these are used again, and outlive any call.
_alive: deque[TeeStream] = deque(maxlen=64)


def _copying(original: Any, stream: int) -> TeeStream:
    while isinstance(original, TeeStream):  # put back by code that had kept it
        original = original._original
    for known in _alive:
        if known._original is original and known._stream == stream:
            return known
    _alive.append(TeeStream(original, stream))
    return _alive[-1]


def _redirect_handlers(streams: list[TeeStream]) -> None:
    """Log handlers hold the stream that they were made with; let them write through ours meanwhile."""
    for handler in _stream_handlers():
        for stream in streams:
            if handler.stream is not None and handler.stream is stream._original:
                handler.stream = stream


def _stream_handlers() -> Iterator[Any]:
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        handler = reference()
        # An exact look: subclasses such as `lastResort` compute their stream
        if type(handler) is logging.StreamHandler:
            yield handler
