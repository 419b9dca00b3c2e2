"""When checks are called: before a commit, over what is published, and before external data is read.

Before a commit they stand between `prepare` (what was written is whole, flushed and digested) and the first `commit`:
what they look at is what would be published, and if they reject it, nothing has been touched yet.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from luigi.parameter import ParameterVisibility

from superluigi import formats, graph
from superluigi.checks import quarantine
from superluigi.checks.definition import Check, checks_of
from superluigi.checks.running import run_checks
from superluigi.checks.subject import Previous, Subject, Values
from superluigi.checks.verdicts import PASSED, Finding
from superluigi.errors import CheckFailedError, DefinitionError
from superluigi.execution.process.forks import ends_forks
from superluigi.execution.process.state_kinds import current_folder
from superluigi.jsonable import jsonable
from superluigi.lineage.code_fingerprint.code import code_identity
from superluigi.lineage.records.builder import OURS
from superluigi.runs import context as runs
from superluigi.runs import logs
from superluigi.storage.base import Record, StagedWrite
from superluigi.tasks import values
from superluigi.tasks.runtime.cancel import Cancelled


def of_staged(
    task: Any,
    staged: object,
    targets: object,
    reader: values.Reader,
    metadata: Callable[[], dict[str, object]],
    given_inputs: Callable[[], object],
) -> list[Finding]:
    """What the checks of `task` say of what is staged for `targets`.

    Raises:
        DefinitionError: it has checks, but no output to be checked.
    """
    checks = checks_of(task)
    if not checks:
        return []
    flat: list[StagedWrite] = graph.flatten(staged)
    if not flat:
        raise DefinitionError(
            f"{task} has checks, but no output that they could look at. Return targets from output()."
        )

    def load(kind: object) -> object:
        own_load = getattr(task, "load_output", None)
        if callable(own_load):
            return own_load(graph.map_structure(lambda one: one.path, staged))
        return graph.map_structure(
            lambda one: formats.load(one.path, as_type=kind, format=one.notes.get("format")), staged
        )

    offers: Mapping[str, Callable[[], object]] = {
        "output_path": lambda: graph.map_structure(lambda one: one.path, staged),
        "metadata": metadata,
        "previous": lambda: _previous(task, targets, reader),
        "inputs": given_inputs,
    }
    loaded = Values(load, _usual(task), is_file=_is_file(targets))
    subject = Subject(loaded, not isinstance(staged, StagedWrite), offers, [one.path for one in flat])
    return _run(task, checks, subject)


def of_published(task: Any, reader: values.Reader, record: Mapping[str, object] | None) -> tuple[list[Finding], Record]:
    """What the checks of `task` say of what is there, and the record's copy to which they may have added measures.

    They get copies of the outputs, and no `previous`: what is in force is what they look at.
    """
    told = copy.deepcopy(dict(record or {}))
    targets = task.output()

    def given_inputs() -> object:
        return values.lazy(values.input_structure(task), reader.value, values.inputs_annotation(task))

    offers: Mapping[str, Callable[[], Any]] = {
        "output_path": lambda: reader.copy(task),
        "metadata": lambda: told,
        "previous": lambda: None,
        "inputs": given_inputs,
    }
    several = isinstance(targets, (list, tuple, Mapping))
    loaded = Values(lambda kind: reader.value(task, kind), _usual(task), is_file=_is_file(targets))
    return _run(task, checks_of(task), Subject(loaded, several, offers)), told


def refuse(task: Any, findings: Sequence[Finding], record: Record, staged: Sequence[Path], attempt: str) -> None:
    """Put what was staged into quarantine and fail the task, if a check says so; what only warns is said.

    Raises:
        CheckFailedError: names the checks, what they saw, and where the rejected data is.
    """
    blocking = [one for one in findings if one.blocks]
    if not blocking:
        tell_warnings(task, findings)
        return
    kept, where = None, "was not kept (setting quarantine)."
    try:
        kept = quarantine.put(record, staged, attempt)
    except OSError as error:
        where = f"could not be kept: {error.filename or quarantine.root()}: {error.strerror or error}."
    if kept is not None and not any(kept.joinpath(quarantine.OUTPUT).glob("*")):
        gone = not any(os.path.lexists(path) for path in staged)
        where = f"{'is there no more' if gone else 'is larger than quarantine_limit_bytes'}: {kept} only describes it."
    elif kept is not None:
        where = f"is in {kept} (superluigi quarantine show)."
    raise CheckFailedError(
        f"{task}: {told(blocking)}\nNothing was published; what was there before stands. What was rejected {where}",
        [one.as_json() for one in findings],
        None if kept is None else str(kept),
    )


def refuse_published(task: Any, findings: Sequence[Finding], what: str) -> None:
    """Fail if what is there does not pass.

    Raises:
        CheckFailedError: names the checks and what they saw.
    """
    blocking = [one for one in findings if one.blocks]
    if blocking:
        raise CheckFailedError(f"{task}: {told(blocking)}\n{what}", [one.as_json() for one in findings])
    tell_warnings(task, findings)


def is_due_alone(task: Any) -> bool:
    """Whether this run refreshes, and nothing of the task has changed but its checks."""
    refresh = runs.current().refresh
    reason = None if refresh is None else refresh.must_run(task)
    return reason is not None and reason.only_checks


def recheck(task: Any) -> None:
    """Check what is there; if it passes, its records say by which checks.

    Raises:
        CheckFailedError: it does not; output and record stay.
    """
    targets = graph.flatten(task.output())
    records = [target.location.read_record() for target in targets]
    with contextlib.ExitStack() as stack:
        found, told = of_published(task, values.Reader(stack), records[0])
    refuse_published(
        task, found, "It was made when these checks were others, and stays as it is. Force it to replace it."
    )
    measures = {key: value for key, value in told.items() if key not in OURS}
    digest = code_identity(task).get("checks")
    for target, record in zip(targets, records, strict=True):
        if record is not None:
            about = {
                "checks": [one.as_json() for one in found],
                "code": {**(record.get("code") or {}), "checks": digest},
            }
            target.location.write_record(jsonable({**record, **measures, **about}))


def told(findings: Sequence[Finding]) -> str:
    """`check 'enough_rows' failed: the check gave False`, each on lines of its own."""
    words = {"failed": "failed", "error": "could not tell"}
    return "\n".join(f"check {one.name!r} {words.get(one.status, one.status)}: {one.detail}" for one in findings)


def tell_warnings(task: Any, findings: Sequence[Finding]) -> None:
    """Log the checks that only warn."""
    bad = [one for one in findings if one.status != PASSED]
    if bad:
        logs.logger.warning("%s: %s", task, told(bad))


def _run(task: Any, checks: Sequence[Check], subject: Subject) -> list[Finding]:
    around = functools.partial(_AroundCheck, current_folder())
    return run_checks(checks, subject, passing=(Cancelled,), around=around, hidden=hidden_texts(task))


class _AroundCheck(ends_forks):
    """The next check, and the commit, are where this one began: in `folder`."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if self._folder is not None and current_folder() != self._folder:
                os.chdir(self._folder)
        finally:
            super().__exit__(kind, error, traceback)


def _usual(task: Any) -> Any:
    wanted = values.returns(type(task))
    return None if wanted is values.UNKNOWN else wanted


def _is_file(targets: object) -> bool:
    return not getattr(targets, "is_folder", False)


def _previous(task: Any, targets: object, reader: values.Reader) -> Previous | None:
    """The output in force, if a task made it."""
    records = [target.location.read_record() for target in graph.flatten(targets)]
    if not records or any(record is None for record in records):
        return None
    own_load = getattr(task, "load_output", None)

    def load(kind: object) -> object:
        if callable(own_load):
            return own_load(graph.map_structure(reader.path, targets))
        return graph.map_structure(lambda target: reader.content(target, kind), targets)

    return Previous(dict(records[0] or {}), Values(load, _usual(task), is_file=_is_file(targets)))


def hidden_texts(task: Any) -> set[str]:
    """Texts of private parameters, which no finding may say."""
    found: set[str] = set()
    for name, parameter in task.get_params():
        if parameter.visibility == ParameterVisibility.PRIVATE:
            _gather(task.param_kwargs[name], found)
            with contextlib.suppress(Exception):  # foreign code
                found.add(parameter.serialize(task.param_kwargs[name]))
    return {one for one in found if len(one) > 1}


def _gather(value: object, found: set[str]) -> None:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        found.add(str(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            _gather(item, found)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _gather(item, found)
