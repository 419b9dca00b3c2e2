"""Tasks of the same parameters with another identity: a seed, or init steps, that are no Luigi parameters.

Luigi would show such parameters with every task; these are written among the texts of a task only where they are set.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import luigi

from superluigi.errors import ParameterError
from superluigi.luigi_compat.tasks import hash_by_id
from superluigi.parameters import references

#: Keywords that every task takes beside its parameters, unless it has parameters of these names.
NAMES = ("hash_seed", "init")


def pop(cls: Any, kwargs: dict[str, Any]) -> dict[str, object]:
    """Take the extra keywords out of the arguments of a call."""
    if kwargs.keys().isdisjoint(NAMES):  # as nearly always
        return {}
    own = dict(cls.get_params())
    return {name: kwargs.pop(name) for name in NAMES if name in kwargs and name not in own}


def variant(task: Any, extras: Mapping[str, Any]) -> Any:
    """`task` with a seed or init steps of its own; the same instance for the same ones."""
    marks = {name: value for name, value in extras.items() if value not in ("", None, (), [])}
    if not marks:
        return task
    if "hash_seed" in marks:
        marks["hash_seed"] = str(marks["hash_seed"])
    if "init" in marks and not hasattr(task, "_superluigi_attempt"):
        raise ParameterError(f"{task.task_family} cannot take init steps: derive it from AtomicTaskWithMetadata.")
    if "init" in marks:
        marks["init"] = _checked_steps(task.get_task_family(), marks["init"])
    key = json.dumps(_texts(marks))
    known: dict[str, Any] = task.__dict__.setdefault("_superluigi_variants", {})
    if key not in known:
        known[key] = _made(task, marks)
    return known[key]


def texts_of(task: Any) -> dict[str, str]:
    """The texts of what makes `task` a variant, for its identity and for `from_str_params`."""
    return _texts(extras) if (extras := extras_of(task)) else {}


def extras_of(task: Any) -> dict[str, Any]:
    """What makes `task` a variant."""
    if task.__dict__.keys().isdisjoint(NAMES):  # as nearly always
        return {}
    return {name: task.__dict__[name] for name in NAMES if name in task.__dict__ and name not in task.param_kwargs}


def from_texts(task: luigi.Task, texts: Mapping[str, Any]) -> object:
    """The variant of `task` that `texts_of` describes; `task` itself without such texts."""
    extras: dict[str, Any] = {}
    if "hash_seed" in texts and "hash_seed" not in task.param_kwargs:
        extras["hash_seed"] = texts["hash_seed"]
    if "init" in texts and "init" not in task.param_kwargs:
        extras["init"] = tuple(references.resolve(text) for text in json.loads(texts["init"]))
    return variant(task, extras)


def _texts(marks: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    if "hash_seed" in marks:
        found["hash_seed"] = marks["hash_seed"]
    if "init" in marks:
        found["init"] = json.dumps([references.refer(step) for step in marks["init"]])
    return found


def _made(task: luigi.Task, marks: Mapping[str, Any]) -> object:
    other = copy.copy(task)
    for name in ("task_hash", "_superluigi_variants"):
        other.__dict__.pop(name, None)
    other.__dict__.update(marks)
    texts = other.to_str_params(only_significant=True, only_public=True)
    other.task_id = luigi.task.task_id_str(task.get_task_family(), texts)
    hash_by_id(other)
    return other


def _checked_steps(family: str, init: object) -> tuple[object, ...]:
    steps = (init,) if isinstance(init, luigi.Task) else init
    if not isinstance(steps, (list, tuple)) or not all(getattr(step, "_superluigi_init_step", False) for step in steps):
        raise ParameterError(f"{family}: init is {init!r}, but expected is a tuple of steps of classes from InitStep.")
    return tuple(steps)
