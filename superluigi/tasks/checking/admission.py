"""Checks of external data: called before a dependant takes it, once for each version of it.

What passed is noted in `<workspace>/admitted/<family>/<task_hash>.json`, with the version and the digest of the checks,
under a lock: of many processes that want the data at once, one looks. What did not pass is noted for the run only, so
that a mended check or a passing fault counts in the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import luigi
from luigi.task import DynamicRequirements

from superluigi import graph
from superluigi.checks import definition
from superluigi.errors import USERS_CODE, CheckFailedError
from superluigi.execution.yielded import CHECKED_DATA
from superluigi.lineage.code_fingerprint.code import checks_digest
from superluigi.runs import context as runs
from superluigi.storage import small_files
from superluigi.storage.base import Location, parsed
from superluigi.storage.local import copy
from superluigi.storage.local_names import local_name
from superluigi.tasks import values
from superluigi.tasks.checking import of_outputs
from superluigi.tasks.runtime.workspace.task_folder import workspace


def admitting(task: luigi.Task, begin: Callable[[], Any]) -> Any:
    """`begin()`, an attempt at `task`, with the external data that it requires, or yields, admitted before it is read.

    Raises:
        CheckFailedError: some of it does not pass.
    """
    if not CHECKED_DATA:
        return begin()
    for one in task.deps():
        admit(one, task)
    value = begin()
    return _following(value, task) if isinstance(value, Generator) else value


def _following(steps: Generator[Any, Any, Any], task: luigi.Task) -> Generator[Any, Any, Any]:
    answer: Any = None
    with contextlib.closing(steps):
        while True:
            try:
                wanted = steps.send(answer)
            except StopIteration as stop:
                return stop.value
            answer = yield wanted
            for one in graph.flatten(wanted.requirements if isinstance(wanted, DynamicRequirements) else wanted):
                admit(one, task)


def admit(external: Any, reader: luigi.Task | None = None) -> None:
    """Call the checks of an external task unless they have passed what is there; of a wrapper, of all that it gathers.

    Raises:
        CheckFailedError: what is there does not pass.
    """
    if isinstance(external, luigi.WrapperTask):  # its outputs may be those of what it requires, and it never runs
        for one in external.deps():
            admit(one, reader)
        return
    if getattr(external, "run", external) is not None or not definition.has_checks(external):
        return
    version = _version(external)
    note = workspace() / "admitted" / local_name(external.get_task_family()) / f"{external.task_hash}.json"
    known = {"version": version, "checks": checks_digest(external)}
    run = runs.current().id
    with _locked(note):
        before = _read(note)
        if {key: before.get(key) for key in known} == known:
            if before.get("passed") is True:
                return
            if before.get("run") == run and isinstance(before.get("message"), str):
                raise CheckFailedError(before["message"], before.get("findings") or ())
        with contextlib.ExitStack() as stack:
            found, _ = of_outputs.of_published(external, values.Reader(stack), None)
        told = {**known, "run": run, "findings": [one.as_json() for one in found]}
        try:
            wanted = "" if reader is None else f" {reader} has not read it."
            of_outputs.refuse_published(external, found, f"It is external data, and stays as it is.{wanted}")
        except CheckFailedError as error:
            _write(note, {**told, "passed": False, "message": str(error)})
            raise
        if _version(external) == version:
            _write(note, {**told, "passed": True})


def _version(task: Any) -> str:
    """What tells one version of the data from another; where nothing does, the run: checked once in each."""
    told = hashlib.sha256()
    for target in graph.flatten(task.output()):
        location = graph.asked(target, "location")
        if not isinstance(location, Location):
            path = graph.asked(target, "path")
            own = isinstance(target, luigi.LocalTarget) and path is not None
            told.update(_of_files(str(path)) if own else f"{path} {runs.current().id}".encode())
        elif "://" in location.uri:
            about = location.describe() or {}
            known = {key: about.get(key) for key in ("path", "size", "count", "etag", "version", "digest")}
            told.update(json.dumps(known, sort_keys=True, default=str).encode())
        else:
            told.update(_of_files(location.uri))
    return told.hexdigest()


def _of_files(path: str) -> bytes:
    told = hashlib.sha256(_seen(path))
    if os.path.isdir(path):
        for _, found in copy.walk(path, tolerant=True):
            for entry in sorted(found, key=lambda one: one.path):
                told.update(_seen(entry.path))
    return told.digest()


def _seen(path: str) -> bytes:
    try:
        status = os.stat(path)
    except OSError as error:
        return f"{path} {error.errno}\n".encode("utf-8", "surrogateescape")
    facts = f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns}\n"  # links from elsewhere change ctime
    return facts.encode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _locked(note: Path) -> Iterator[None]:
    """One process at a time; a workspace that takes no files only means that more of them look."""
    descriptor = None
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(note.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _read(note: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = parsed(small_files.read(note))
        if isinstance(found, dict):
            return found
    return {}


def _write(note: Path, told: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # then the next one looks again
        new = note.with_suffix(f".{os.getpid()}")
        with USERS_CODE:
            new.write_text(json.dumps(told), encoding="utf-8", errors="backslashreplace")
            os.replace(new, note)
