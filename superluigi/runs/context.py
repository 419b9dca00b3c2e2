"""The run that tasks are part of: its id, when it began, its force plan, its rule for what is stale.

A run is a frozen value. It travels in a `ContextVar` inside a process and pickled beside the task to
other processes; tasks and targets ask `current()` and never hold it.
"""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, Protocol

from superluigi import config
from superluigi.runs.force import ForcePlan, TaskLike


class WhyStale(Protocol):
    """Why a task must run (`lineage.staleness.reasons.Reason`)."""

    @property
    def word(self) -> str: ...
    @property
    def only_checks(self) -> bool: ...


class RefreshRule(Protocol):
    """What is stale, in a run that refreshes (`lineage.staleness.refresh`)."""

    def must_run(self, task: Any) -> WhyStale | None:
        """Why a task must run, now that what it requires is settled; None if it is up to date after all."""

    def is_suspect(self, task: Any) -> bool:
        """Whether a task that exists may have to be made again."""


def new_run_id() -> str:
    """A unique run id that sorts by time: `20131215T101500Z-1f2e3d4c`."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


#: Ids of the tasks whose attempts this code is part of: of one, and of those in which its run was begun.
making: ContextVar[frozenset[str]] = ContextVar("superluigi_making", default=frozenset())


@dataclass(frozen=True)
class RunContext:
    """What all attempts of one run share."""

    id: str = field(default_factory=new_run_id)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    plan: ForcePlan = field(default_factory=ForcePlan)
    force_local_download: bool = False
    store: str | None = None
    #: Values for Luigi's configuration that the run was given: section -> option -> value.
    config: Mapping[str, Mapping[str, object]] | None = None
    #: Variables for its tasks (`tasks.runtime.environment.Environment.as_option`).
    environment: Mapping[str, object] | None = None
    #: While another process makes the same output: "wait", "fail" or "off"; None: what the task or the settings say.
    exclusive: Literal["wait", "fail", "off"] | None = None
    #: In a run that refreshes.
    refresh: RefreshRule | None = None
    #: Ids of forced tasks without records that an interrupted run, now resumed, has made.
    made_before: frozenset[str] = frozenset()
    #: Ids of the tasks in whose attempts it was begun, which end after it.
    within: frozenset[str] = field(default_factory=making.get)

    def forces(self, task: TaskLike) -> bool:
        """Whether this run makes `task` again although it is complete; `runs.completeness` says if it has."""
        return self.plan.forces(task)


_current: ContextVar[RunContext | None] = ContextVar("superluigi_run", default=None)


@functools.lru_cache(maxsize=1)
def _process_run(pid: int) -> RunContext:
    return RunContext(within=frozenset())


def current() -> RunContext:
    """The run this code is part of; outside `run_task` (plain `luigi` commands) one per process."""
    return _current.get() or _process_run(os.getpid())


def is_luigis() -> bool:
    """Whether this is part of a run of Luigi's own (`luigi.build`, `luigi` commands), and not of one of ours."""
    return _current.get() is None


class entered:  # noqa: N801 - used like a function, around every attempt
    """Make `run` the current one for this thread and what it calls."""

    def __init__(self, run: RunContext) -> None:
        self._run = run

    def __enter__(self) -> RunContext:
        self._config = config.ensured(self._run.config)
        self._config.__enter__()
        self._reset = _current.set(self._run)
        return self._run

    def __exit__(self, *exc_info: object) -> None:
        _current.reset(self._reset)
        self._config.__exit__(None, None, None)
