"""Unpickle what brings classes by value (those of `__main__` and notebooks)."""

from __future__ import annotations

import pickle
import sys
from typing import Any


def loads(data: bytes) -> Any:
    """`pickle.loads`, after which each task class is in Luigi's register once.

    For a class that is known here, cloudpickle makes a second one, finds the first and throws the second away: but
    making it has registered it, and from then on Luigi calls its name ambiguous.
    """
    known = len(_registered())
    value = pickle.loads(data)
    added = _registered()[known:]
    if added:
        _forget_spares(added)
    return value


def _registered() -> list[Any]:
    module: Any = sys.modules.get("luigi.task_register")
    return [] if module is None else module.Register._reg


def _forget_spares(added: list[Any]) -> None:
    module: Any = sys.modules.get("cloudpickle.cloudpickle")
    used = set(getattr(module, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", ()))
    names = {(kind.__module__, kind.__name__) for kind in used}
    for spare in added:
        if spare not in used and (spare.__module__, spare.__name__) in names:
            _registered().remove(spare)
