"""Why a task would be made again: a pure judgement over what is known about it, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from superluigi.errors import OptionError
from superluigi.lineage.code_fingerprint import code_parts
from superluigi.lineage.records import acceptance, comparing
from superluigi.storage.base import Record

UP_TO_DATE = "up to date"
OUTPUT_MISSING = "output missing"
RECORD_MISSING = "record missing"
PARAMETER_CHANGED = "parameter changed"
INPUT_CHANGED = "input changed"
CODE_CHANGED = "code changed"
PACKAGE_CHANGED = "package changed"
#: What is there is checked anew; it is not made again.
CHECK_CHANGED = "check changed"
FORCED = "forced"

_ALWAYS = (OUTPUT_MISSING, RECORD_MISSING, PARAMETER_CHANGED, INPUT_CHANGED)
#: What counts in each mode of `run_task(refresh=…)`.
MODES: Mapping[str, frozenset[str]] = {
    "inputs": frozenset(_ALWAYS),
    "code": frozenset((*_ALWAYS, CODE_CHANGED, CHECK_CHANGED)),
    "all": frozenset((*_ALWAYS, CODE_CHANGED, PACKAGE_CHANGED, CHECK_CHANGED)),
}
_SHOWN = 3


@dataclass(frozen=True)
class Reason:
    """Why a task is as it is: one of the words above, and what exactly, in words."""

    word: str
    detail: str = ""

    @property
    def only_checks(self) -> bool:
        """What is there is checked anew; it is not made again."""
        return self.word == CHECK_CHANGED

    def __str__(self) -> str:
        return f"{self.word}: {self.detail}" if self.detail else self.word


@dataclass(frozen=True)
class Facts:
    """What is known about one task without running it. `None` means that it cannot be known."""

    #: Addresses of outputs that are not there; a task without outputs tells by `complete()`.
    missing: tuple[str, ...] = ()
    #: Addresses of outputs that are there without a record, although this kind of task keeps records.
    unrecorded: tuple[str, ...] = ()
    #: The record of the outputs; None for tasks that keep none, whose existence is all that counts.
    record: Record | None = None
    #: Significant parameters as a record shows them now.
    params: Mapping[str, object] = field(default_factory=dict)
    #: Address -> how the record refers to that input.
    recorded_inputs: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    #: The same of the inputs that the output was accepted for later; None if it was not.
    accepted_inputs: Mapping[str, Mapping[str, object]] | None = None
    #: Address -> what is there now; None if nothing is.
    inputs: Mapping[str, Record | None] = field(default_factory=dict)
    #: Addresses of what `requires()` names now; None if that cannot be told.
    required: frozenset[str] | None = None
    #: Addresses that the record says were discovered by `yield`.
    dynamic: frozenset[str] = frozenset()
    #: `digest` and `parts` of the code now.
    code: Mapping[str, Any] = field(default_factory=dict)
    #: Distribution -> version of the packages that the code uses now.
    packages: Mapping[str, str] = field(default_factory=dict)


def check_mode(refresh: str) -> str:
    """`refresh` itself.

    Raises:
        OptionError: it is none of the known modes.
    """
    if refresh not in MODES:
        raise OptionError(f"refresh={refresh!r} is not known. Use one of: {', '.join(map(repr, MODES))}.")
    return refresh


def judge(facts: Facts, refresh: str = "all") -> Reason:
    """The first reason, in the order of weight, for which the task should be made again; else `up to date`."""
    for reason in reasons(facts):
        if reason.word in MODES[refresh]:
            return reason
    return Reason(UP_TO_DATE)


def reasons(facts: Facts) -> list[Reason]:
    """Every reason that there is, heaviest first; empty when the task is up to date."""
    if facts.missing:
        return [Reason(OUTPUT_MISSING, _listed(facts.missing))]
    if facts.unrecorded:
        return [Reason(RECORD_MISSING, _listed(facts.unrecorded))]
    if facts.record is None:
        return []
    checks: tuple[tuple[str, Callable[[Facts, Record], list[str]]], ...] = (
        (PARAMETER_CHANGED, parameters_changed),
        (INPUT_CHANGED, _inputs),
        (CODE_CHANGED, _code),
        (PACKAGE_CHANGED, _packages),
        (CHECK_CHANGED, _checks),
    )
    found = ((word, check(facts, facts.record)) for word, check in checks)
    return [Reason(word, _listed(details)) for word, details in found if details]


def parameters_changed(facts: Facts, record: Record) -> list[str]:
    """Each parameter that is not what the record says, in words."""
    before = record.get("params") or {}
    return [
        f"{name} was {before[name]!r}, is {value!r}" if name in before else f"{name} is new"
        for name, value in facts.params.items()
        if name not in before or before[name] != value
    ]


def _inputs(facts: Facts, record: Record) -> list[str]:
    del record
    found = []
    accepted = facts.accepted_inputs
    for address, reference in {**(accepted or {}), **facts.recorded_inputs}.items():
        if facts.required is not None and address not in facts.required and address not in facts.dynamic:
            if accepted is None or address in accepted:
                found.append(f"{address} is not required any more")
        elif address in facts.inputs:
            now = facts.inputs[address]
            if now is None:
                found.append(f"{address} is missing")
            elif comparing.differs(reference, now) and (
                accepted is None or address not in accepted or comparing.differs(accepted[address], now)
            ):
                found.append(f"{address} has other content")
    new = (facts.required or frozenset()) - facts.recorded_inputs.keys() - (accepted or {}).keys()
    return [*found, *(f"{address} is newly required" for address in sorted(new))]


def _code(facts: Facts, record: Record) -> list[str]:
    known = [one for one in (acceptance.accepted_code(record), record.get("code") or {}) if one.get("digest")]
    if not known or not facts.code or any(one["digest"] == facts.code["digest"] for one in known):
        return []
    return code_parts.changed(known[0].get("parts") or {}, facts.code["parts"]) or [
        "in a part that the record does not list"
    ]


def _checks(facts: Facts, record: Record) -> list[str]:
    now = facts.code.get("checks")
    before = (record.get("code") or {}).get("checks")
    if not now or before == now:
        return []
    return ["what is there was not checked by these"] if before else ["what is there was not checked"]


def _packages(facts: Facts, record: Record) -> list[str]:
    from superluigi.lineage.code_fingerprint.environment import ALWAYS

    before = (record.get("environment") or {}).get("packages") or {}
    now = facts.packages
    accepted = acceptance.accepted_packages(record)
    if accepted is not None and before != now:
        before = accepted
    return [
        f"{name} {before.get(name, 'was not used')} -> {now.get(name, 'not used')}"
        for name in sorted(before.keys() | now.keys())
        if name not in ALWAYS and before.get(name) != now.get(name)
    ]


def _listed(items: Iterable[str]) -> str:
    items = list(items)
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
