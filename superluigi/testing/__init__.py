"""Shipped for users: helpers for their tests, conformance suites, an S3 server, a proxy that breaks connections."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superluigi.testing.sandbox import Sandbox as Sandbox
    from superluigi.testing.sandbox import assert_record as assert_record
    from superluigi.testing.sandbox import run_alone as run_alone
    from superluigi.testing.sandbox import run_in as run_in

__all__ = ["Sandbox", "assert_record", "run_alone", "run_in"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'superluigi.testing' has no attribute {name!r}")
    return getattr(importlib.import_module("superluigi.testing.sandbox"), name)
