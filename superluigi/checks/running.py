"""Checks are called, one after the other, with what they ask for; each answer becomes a finding."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from superluigi.checks import verdicts
from superluigi.checks.definition import Check
from superluigi.checks.subject import Subject, Unreadable
from superluigi.checks.verdicts import ERROR, FAILED, Finding, Rejected, bounded, of_answer, of_error
from superluigi.errors import DefinitionError, MissingDependencyError
from superluigi.storage.failpoints import failpoint
from superluigi.storage.local import copy
from superluigi.storage.local.stages import stage_check

#: Files whose times say too little: changed within one tick of the clock, they may look as before.
_TICK_NS = 20_000_000
_SMALL = 1 << 20
#: What stands in the place of a private text, and how many characters of its beginning tell something.
_PRIVATE, _TELLING = "(private)", 3


def run_checks(
    checks: Sequence[Check],
    subject: Subject,
    *,
    passing: tuple[type[BaseException], ...] = (),
    around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    hidden: Iterable[str] = (),
) -> list[Finding]:
    """Call all checks, in order; what one raises is its finding, unless it is of `passing` kinds or Ctrl-C.

    Each is called within `around()`. Of texts that say what is `hidden` (values of private parameters), that is left
    out. What a check has done to the files it was given ends the checking: its finding says so, and blocks.
    """
    secrets = _spellings(hidden)
    asked = any("output_path" in one.names for one in checks)
    watched = _Watched(subject.paths(asked), thorough=asked, staged=subject.is_staged)
    waiting = sum(map(_wants_value, checks))
    found: list[Finding] = []
    for one in checks:
        failpoint("check")
        waiting -= _wants_value(one)
        finding, changed = _called(one, subject, passing, around, waiting > 0), False
        # who has not asked for the path may know it all the same
        if ("output_path" in one.names or one is checks[-1]) and watched.changed():
            finding, changed = Finding(one.name, ERROR, "error", finding.seconds, _CHANGED), True
        found.append(_without(finding, secrets))
        if changed:
            break
    return found


_CHANGED = (
    "the check changed output_path, which is what would be published, or put something beside it, which would be "
    "lost. Let it read only, or work on a copy elsewhere."
)


def _wants_value(one: Check) -> bool:
    return "value" in one.names or "values" in one.names


def _called(
    one: Check,
    subject: Subject,
    passing: tuple[type[BaseException], ...],
    around: Callable[[], contextlib.AbstractContextManager[object]],
    shared: bool,
) -> Finding:
    began = time.perf_counter()

    def finding(status: verdicts.Status, detail: str) -> Finding:
        return Finding(one.name, status, one.severity, time.perf_counter() - began, detail)

    try:
        with around():
            given = {name: subject.get(name, one.wants, shared=shared) for name in one.names}
            answer = one.call(**given)
            return finding(*of_answer(answer, lambda: subject.loaded(one.wants)))
    except KeyboardInterrupt:
        raise
    except Rejected as error:
        return finding(FAILED, str(error))
    except Unreadable as error:
        return finding(FAILED, f"its value cannot be loaded: {of_error(error.error)}")
    except DefinitionError as error:
        return finding(ERROR, str(error))
    except MissingDependencyError as error:
        return finding(ERROR, str(error))
    except ImportError as error:
        advice = f" Install it where the task runs: pip install {error.name}." if error.name else ""
        return finding(ERROR, f"{of_error(error)}{advice}")
    except BaseException as error:  # whatever a check raises is its answer
        if isinstance(error, passing):
            raise
        return finding(FAILED, of_error(error))


def _spellings(hidden: Iterable[str]) -> list[str]:
    """How texts may stand in a finding: as they are, in one line, quoted by Python and by JSON; the longest first."""
    found: set[str] = set()
    for text in hidden:
        found |= {text, " ".join(text.split()), repr(text)[1:-1], repr(f"{text}'")[1:-2], repr(f"{text}'\"")[1:-4]}
        found |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return sorted((one for one in found if len(one) > 1), key=lambda one: (-len(one), one))


def _without(finding: Finding, secrets: Sequence[str]) -> Finding:
    detail = finding.detail
    if not detail:
        return finding
    for secret in secrets:
        detail = detail.replace(secret, _PRIVATE)
    detail = bounded(detail)
    for secret in secrets:  # cut short, its beginning may still tell it
        for length in range(len(secret) - 1, min(_TELLING, len(secret)) - 1, -1):
            detail = detail.replace(f"{secret[:length]}…", f"{_PRIVATE}…")
    return Finding(finding.name, finding.status, finding.severity, finding.seconds, detail)


class _Watched:
    """Files that may not be changed meanwhile."""

    def __init__(self, paths: Iterable[Path], *, thorough: bool, staged: bool) -> None:
        self._paths, self._staged, self._limit = list(paths), staged, _SMALL if thorough else -1
        self._before = self._look()
        if thorough and self._paths and self._digests is None and time.time_ns() - self._newest < _TICK_NS:
            time.sleep(_TICK_NS / 1e9)  # a change is to have another time

    def changed(self) -> bool:
        """Whether they are not as they were when they were first looked at."""
        return self._look() != self._before

    _digests: list[str] | None = None
    _newest = 0

    def _look(self) -> tuple[list[tuple[object, ...]], list[str] | None]:
        seen: list[tuple[object, ...]] = []
        files: list[str] = []
        size = 0
        for path in self._paths:
            if self._staged:  # a stage is there for one output alone
                seen.append(tuple(stage_check.beside(path)))
            for name in _below(str(path)):
                try:
                    status = os.lstat(name)
                except OSError as error:
                    seen.append((name, error.errno))
                    continue
                mode = status.st_mode
                is_file = not (stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and os.path.isdir(name)))
                if is_file:
                    files.append(name)
                    size += status.st_size
                times = (status.st_mtime_ns, status.st_ctime_ns) if is_file else ()
                seen.append((name, mode, status.st_ino, *times, status.st_size if is_file else 0))
                self._newest = max(self._newest, status.st_ctime_ns)
        self._digests = None if size > self._limit else [_digest(name) for name in files]
        return seen, self._digests


def _digest(name: str) -> str:
    try:
        return copy.sha256(Path(name))
    except OSError as error:
        return f"errno {error.errno}"


def _below(top: str) -> Iterable[str]:
    """A file, or a folder with all that is in it, in a fixed order."""
    yield top
    if os.path.isdir(top) and not os.path.islink(top):
        for _, found in copy.walk(top, tolerant=True):
            yield from sorted(entry.path for entry in found)
