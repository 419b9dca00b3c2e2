"""Values as bytes for another process: by reference where it can import them, by value where it cannot."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle  # type: ignore[import-untyped]


def dumps(value: Any) -> bytes:
    """As cloudpickle would, at a third of the cost for what modules define.

    Raises:
        Exception: whatever pickling raises for what cannot travel.
    """
    if not cloudpickle.list_registry_pickle_by_value():
        try:
            dumped = pickle.dumps(value)
        except Exception:  # noqa: BLE001 - lambdas, local classes: cloudpickle takes them by value
            dumped = b"__main__"
        if b"__main__" not in dumped:  # over there, `__main__` is another module
            return dumped
    return bytes(cloudpickle.dumps(value))
