"""The run that tasks are part of: its id, when it began, its force plan and its options.

A run is a frozen value. It travels in a `ContextVar` inside a process and pickled beside the task to
other processes; tasks and targets ask `current()` and never hold it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from superluigi import config
from superluigi.runs.force import ForcePlan

#: The option that holds ids of forced tasks without records that an interrupted run, now resumed, has made.
MADE_BEFORE = "made_before"


def new_run_id() -> str:
    """A unique run id that sorts by time: `20131215T101500Z-1f2e3d4c`."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class RunContext:
    """What all attempts of one run share."""

    id: str = field(default_factory=new_run_id)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    plan: ForcePlan = field(default_factory=ForcePlan)
    force_local_download: bool = False
    store: str | None = None
    #: Further options of the run for rooms above this one, by name; values must pickle.
    options: dict[str, Any] = field(default_factory=dict)


_current: ContextVar[RunContext | None] = ContextVar("superluigi_run", default=None)


@functools.lru_cache(maxsize=1)
def _process_run(pid: int) -> RunContext:
    return RunContext()


def current() -> RunContext:
    """The run this code is part of; outside `run_task` (plain `luigi` commands) one per process."""
    return _current.get() or _process_run(os.getpid())


def is_luigis() -> bool:
    """Whether this is part of a run of Luigi's own (`luigi.build`, `luigi` commands), and not of one of ours."""
    return _current.get() is None


@contextlib.contextmanager
def entered(run: RunContext) -> Iterator[RunContext]:
    """Make `run` the current one for this thread and what it calls."""
    with config.ensured(run.options.get("config")):
        reset = _current.set(run)
        try:
            yield run
        finally:
            _current.reset(reset)
