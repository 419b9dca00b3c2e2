"""The executors of this machine, as `executors.make` calls them."""

from __future__ import annotations

from superluigi.execution.processes import ProcessExecutor
from superluigi.execution.threads import ThreadExecutor


def threads(name: str, max_workers: int) -> ThreadExecutor:
    """`executor="threads"`."""
    return ThreadExecutor(max_workers)


def processes(name: str, max_workers: int) -> ProcessExecutor:
    """`executor="processes"`."""
    return ProcessExecutor(max_workers)
