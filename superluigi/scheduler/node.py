"""What the scheduler knows of one task (Luigi's `scheduler.Task` in a fifth of the memory) and of ready ones alike."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias

from luigi.parameter import ParameterVisibility

#: Handed out once per node: ties in time are broken by who came first.
_sequence = itertools.count()

Params = dict[str, str]


class RetryPolicy(Protocol):
    """Luigi's, as far as we read it."""

    @property
    def retry_count(self) -> float: ...
    @property
    def disable_hard_timeout(self) -> float: ...
    @property
    def disable_window(self) -> float: ...


class Node:
    """Attributes have Luigi's names and meanings, so that its queries and its page read them.

    `workers` is a tuple (in order of arrival), `stakeholders` a frozenset, `deps` a tuple: most tasks
    share theirs with many others. Parameters may be given as a callable that is asked only when
    they are looked at: turning values into strings costs more than scheduling the task.
    """

    __slots__ = (
        "_hidden",
        "_params",
        "_public",
        "_visibilities",
        "accepts_messages",
        "batch_id",
        "batchable",
        "bound",
        "counted",
        "dead_deps",
        "deps",
        "entry",
        "expl",
        "failures",
        "family",
        "first_failure_time",
        "id",
        "module",
        "priority",
        "progress_percentage",
        "remove",
        "resources",
        "resources_running",
        "retry",
        "retry_policy",
        "runnable",
        "scheduler_disable_time",
        "scheduler_message_responses",
        "sequence",
        "stakeholders",
        "status",
        "status_message",
        "time",
        "time_running",
        "tracking_url",
        "unmet",
        "updated",
        "worker_running",
        "workers",
    )

    def __init__(self, task_id: str, status: str, priority: float, retry_policy: RetryPolicy) -> None:
        #: Not set before the task first runs, as in Luigi's class.
        self.resources_running: dict[str, int]
        self.id = task_id
        self.status = status
        self.priority = priority
        #: Luigi's RetryPolicy.
        self.retry_policy = retry_policy
        self.sequence = next(_sequence)
        self.time = self.updated = time.time()
        self.deps: tuple[str, ...] = ()
        #: How many of `deps` are not DONE.
        self.unmet = 0
        #: How many of `deps` are disabled or wait for one that is.
        self.dead_deps = 0
        #: The entry in the index of ready tasks, None when the task is not ready.
        self.entry: ReadyEntry | None = None
        #: The `workers` under which the task counts as pending, None when it does not.
        self.counted: tuple[str, ...] | None = None
        #: The `workers` under which the task counts as pending and in need of resources.
        self.bound: tuple[str, ...] | None = None
        self.stakeholders: frozenset[str] = frozenset()
        self.workers: tuple[str, ...] = ()
        self.resources: dict[str, int] = {}
        self.family = ""
        self.module: str | None = None
        self._params: Params | Callable[[], Params] | None = None
        self._visibilities: Any = None
        self._public: Params | None = None
        self._hidden: Params | None = None
        self.retry: float | None = None
        self.remove: float | None = None
        self.worker_running: str | None = None
        self.time_running: float | None = None
        self.expl: object = None
        self.accepts_messages = False
        self.failures: list[float] = []
        self.first_failure_time: float | None = None
        self.tracking_url: str | None = None
        self.status_message: str | None = None
        self.progress_percentage: float | None = None
        self.scheduler_message_responses: dict[str, object] = {}
        self.scheduler_disable_time: float | None = None
        self.runnable: bool | None = False
        self.batchable = False
        self.batch_id: str | None = None

    def __repr__(self) -> str:
        return f"Node({self.id!r}, {self.status})"

    @property
    def params(self) -> Params:
        if callable(self._params):
            self._params = self._params()
        return self._params or {}

    @property
    def param_visibilities(self) -> dict[str, object]:
        if callable(self._visibilities):
            self._visibilities = self._visibilities()
        return self._visibilities or {}

    def describe(self, family: str, module: str | None, params: object, visibilities: object) -> None:
        """Fill in what is not known yet: tasks are often first heard of as requirements of others."""
        self.family = self.family or family
        self.module = self.module or module
        if self._visibilities is None:
            self._visibilities = visibilities
        if not self._params:
            self.set_params(params)

    def set_params(self, params: Any) -> None:
        self._params = params
        self._public = self._hidden = None

    @property
    def public_params(self) -> Params:
        if self._public is None:
            self._public = self._visible(ParameterVisibility.PUBLIC)
        return self._public

    @property
    def hidden_params(self) -> Params:
        if self._hidden is None:
            self._hidden = self._visible(ParameterVisibility.HIDDEN)
        return self._hidden

    def _visible(self, wanted: ParameterVisibility) -> Params:
        public = ParameterVisibility.PUBLIC
        return {k: v for k, v in self.params.items() if self.param_visibilities.get(k, public) == wanted}

    @property
    def pretty_id(self) -> str:
        return f"{self.family}({', '.join(f'{k}={v}' for k, v in sorted(self.public_params.items()))})"

    def is_batchable(self) -> bool:
        return self.batchable

    # -- failures, by Luigi's policy: so many within a window, or any after a hard timeout

    def add_failure(self) -> None:
        now = time.time()
        self.first_failure_time = self.first_failure_time or now
        self.failures.append(now)

    def num_failures(self) -> int:
        oldest = time.time() - self.retry_policy.disable_window
        self.failures = [t for t in self.failures if t >= oldest]
        return len(self.failures)

    def has_excessive_failures(self) -> bool:
        first = self.first_failure_time
        if first is not None and time.time() >= first + self.retry_policy.disable_hard_timeout:
            return True
        return bool(self.num_failures() >= self.retry_policy.retry_count)

    def clear_failures(self) -> None:
        self.failures = []
        self.first_failure_time = None


#: (-priority, time, sequence, node, group): the smallest goes first, which is Luigi's order; sequences differ.
ReadyEntry: TypeAlias = "tuple[float, float, int, Node, ReadyGroup]"


class ResourceKey(NamedTuple):
    """What decides whether a ready task may start: equal for all tasks of a group."""

    resources: tuple[tuple[str, int], ...]
    workers: tuple[str, ...]
    runnable: bool
    #: Family and unbatched parameters of tasks that may be run in one batch, else None.
    batch: object


class ReadyGroup:
    """Ready tasks of one kind. Entries that are no longer valid stay until they come up."""

    def __init__(self, kind: ResourceKey) -> None:
        self.kind = kind
        #: How many ready tasks there are.
        self.size = 0
        self._heap: list[ReadyEntry] = []

    def __lt__(self, other: ReadyGroup) -> bool:
        return False  # only an old and a new entry of one task come to this, and either may be first

    def push(self, entry: ReadyEntry) -> None:
        heapq.heappush(self._heap, entry)

    def head(self) -> ReadyEntry | None:
        heap = self._heap
        while heap:
            entry: ReadyEntry = heap[0]
            if entry[3].entry is entry:
                return entry
            heapq.heappop(heap)
        return None

    def pop(self) -> ReadyEntry | None:
        """Take the best entry out; the caller pushes it back unless the task starts."""
        entry = self.head()
        if entry is not None:
            heapq.heappop(self._heap)
        return entry


class Interned:
    """One copy of each small tuple and frozenset of worker ids, however many tasks carry it."""

    def __init__(self) -> None:
        self._kept: dict[object, object] = {}

    def _one(self, value: object) -> Any:
        return self._kept.setdefault(value, value)

    def tuple_with(self, values: tuple[str, ...], value: str) -> tuple[str, ...]:
        result: tuple[str, ...] = values if value in values else self._one((*values, value))
        return result

    def set_with(self, values: frozenset[str], value: str) -> frozenset[str]:
        result: frozenset[str] = values if value in values else self._one(values | {value})
        return result

    def tuple_without(self, values: tuple[str, ...], gone: Iterable[str]) -> tuple[str, ...]:
        result: tuple[str, ...] = self._one(tuple(v for v in values if v not in gone))
        return result

    def set_without(self, values: frozenset[str], gone: Iterable[str]) -> frozenset[str]:
        result: frozenset[str] = self._one(values.difference(gone))
        return result
