"""The words of the queue: states, pools, and the frozen rows that it shows. Pure data, no SQL.

    WAITING ──requirements met──> PENDING ──claimed──> RUNNING ──> SUCCEEDED
       ^  ^                          ^                    │  │
       │  └──────yield, delayed retry┼────────────────────┤  ├──> FAILED   (no attempts left)
       └── a requirement is redone   └──lease lost, put back┘  └──> KILLED   (by a user)

WAITING means "not now": for requirements, or until a time (a delayed retry, an external task that is not
there yet). PENDING means that any worker of the pool may claim it. BLOCKED is shown, not stored: WAITING
behind a FAILED or KILLED task.
"""

from __future__ import annotations

import json
import operator
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from superluigi.arguments import Takes, can_be_named, guarded
from superluigi.errors import OptionError

if TYPE_CHECKING:
    import luigi

WAITING = "WAITING"
PENDING = "PENDING"
RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
KILLED = "KILLED"
BLOCKED = "BLOCKED"
STATES = (WAITING, PENDING, RUNNING, SUCCEEDED, FAILED, KILLED)
SHOWN = (*STATES, BLOCKED)

DEFAULT_POOL = "default"
#: What a column of whole numbers holds at most, in either database.
LARGEST = 2**31 - 1
OnTerm = Literal["requeue", "kill"]


#: Slurm counts in minutes, and warns half a minute before the end.
_SHORTEST_WALLTIME = {"local": timedelta(seconds=6), "slurm": timedelta(minutes=1)}


def _is_command(text: str) -> bool:
    try:
        return shlex.split(text) is not None
    except ValueError:  # a quote that does not end
        return False


def _as_text(value: object) -> str:
    return str(os.fspath(value)) if isinstance(value, os.PathLike) else str(value)


def _as_json(value: object) -> object:
    return json.loads(json.dumps(value, default=_as_plain))


def _as_plain(value: Any) -> object:
    """A path as text, a number of NumPy's as Python's."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value.item()


def _is_json(value: object) -> bool:
    return json.dumps(value, default=_as_plain) is not None


_Variable = Annotated[str, Takes("the name of a variable", lambda it: it and "=" not in it and can_be_named(it))]
_Value = Annotated[
    str | int | float | os.PathLike[str],
    Takes("a text, a number or a path, without a zero byte", lambda it: can_be_named(_as_text(it))),
]
_Option = Annotated[object, Takes("a text, a number, True, False, None, or a list or dict of these", _is_json)]
#: It becomes part of names of files and of jobs.
PoolName = Annotated[
    str,
    Takes(
        "a name of letters, digits, spaces and '_-.:+@' (a letter, digit or '_' first, at most 100)",
        lambda name: bool(re.fullmatch(r"\w[\w .:+@-]{0,99}", name)),
    ),
]


@guarded
@dataclass(frozen=True)
class Pool:
    """How many tasks of one kind run at once, and in what surroundings.

    `environment` is added to the environment of the processes that run tasks, `prefix` is a command before
    theirs (`nice -n 10`, `srun --mem 8G`), `walltime` is how long a worker may live (a
    timedelta, or text as batch systems write it: "01:30:00", "2h", "1-12:00:00"); `on_term` is what
    becomes of the running task when the worker is told to end (SIGTERM, walltime): put back, or killed.
    `provider` starts the workers, `options` are the provider's own.
    """

    max_workers: Annotated[int, Takes("a number of at least 1", lambda n: 1 <= n <= LARGEST)] | None = None
    provider: Annotated[str, Takes("a name such as 'local' or 'slurm'")] = "local"
    environment: Annotated[Mapping[_Variable, _Value], Takes("a dict", example="{'OMP_NUM_THREADS': '1'}")] = field(
        default_factory=dict
    )
    prefix: (
        Annotated[str, Takes("a command such as 'nice -n 10'", lambda text: can_be_named(text) and _is_command(text))]
        | None
    ) = None
    walltime: Annotated[timedelta | str | None, Takes("a timedelta, or a text such as '2h'")] = None
    on_term: OnTerm = "requeue"
    options: Annotated[Mapping[str, _Option], Takes("a dict", example="{'partition': 'gpu'}")] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        shortest = _SHORTEST_WALLTIME.get(self.provider, _SHORTEST_WALLTIME["local"])
        if self.longest is not None and self.longest < shortest:
            raise OptionError(
                f"Pool: walltime is {self.walltime}, expected at least {shortest}: a worker needs time to start, and "
                "to put its task back at the end."
            )
        object.__setattr__(self, "walltime", self.longest)  # frozen: equal pools are equal, however written
        if self.max_workers is not None:
            object.__setattr__(self, "max_workers", operator.index(self.max_workers))  # NumPy's has no text in JSON
        object.__setattr__(self, "environment", {name: _as_text(value) for name, value in self.environment.items()})
        object.__setattr__(self, "options", {name: _as_json(value) for name, value in self.options.items()})

    @property
    def longest(self) -> timedelta | None:
        """`walltime` as a time.

        Raises:
            OptionError: it is text that says none.
        """
        return duration(self.walltime) if isinstance(self.walltime, str) else self.walltime


_CLOCK = re.compile(r"(?:(?P<d>\d+)-)?(?P<h>\d+):(?P<m>\d{1,2})(?::(?P<s>\d{1,2}))?")
_UNITS = re.compile(
    r"(?:(?P<d>[\d.]+)\s*d)?\s*(?:(?P<h>[\d.]+)\s*h)?\s*(?:(?P<m>[\d.]+)\s*m(?:in)?)?\s*(?:(?P<s>[\d.]+)\s*s)?"
)


def duration(text: str) -> timedelta:
    """A time from `01:30:00`, `1:30` (hours and minutes), `1-12:00:00`, `2h`, `1h30m`, `90 min`, `45s`.

    Raises:
        OptionError: it is none of these.
    """
    word = text.strip().lower()
    match = _CLOCK.fullmatch(word) or (_UNITS.fullmatch(word) if word else None)
    try:
        parts = {} if match is None else {name: float(value) for name, value in match.groupdict().items() if value}
    except ValueError:
        parts = {}
    if not parts:
        raise OptionError(f"{text!r} is no time. Write it as '01:30:00', '2h', '90min', or give a timedelta.")
    try:
        return timedelta(
            days=parts.get("d", 0), hours=parts.get("h", 0), minutes=parts.get("m", 0), seconds=parts.get("s", 0)
        )
    except OverflowError as error:
        raise OptionError(f"{text:.100} is longer than any time can be ({error}).") from error


@dataclass(frozen=True)
class TaskSpec:
    """One task as the queue keeps it; JSON values only, since it crosses processes."""

    task_id: str
    name: str
    module: str
    #: The parameters as JSON text of a dict of texts; `{"text", "value"}` where the text does not give the value back.
    params: str
    pool: str = DEFAULT_POOL
    priority: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    #: Seconds that one attempt may take.
    timeout: float | None = None
    #: How many failures make the task FAILED, and the seconds between attempts.
    max_failures: int = 1
    retry_delay: float = 0.0
    #: Seconds: failures longer ago do not count; a failure so long after the first that counts is the last.
    retry_window: float | None = None
    retry_deadline: float | None = None
    #: Digest of the class stored by value, if it is.
    code: str | None = None
    tags: str | None = None
    #: Only stands for data that others make: when missing, it is looked for again later.
    external: bool = False
    complete: bool = False
    #: Made again in this run although it was done.
    forced: bool = False
    #: Whether the task itself can tell that this run has made it (see `can_tell`).
    tells: bool = True
    deps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submission:
    """What one `submit` did: task ids by what became of them."""

    run: str
    roots: tuple[str, ...]
    #: Rows that this submission added or brought back to life.
    added: tuple[str, ...]
    #: Complete already; nothing will run.
    done: tuple[str, ...]
    #: Rows that were there and stay as they are: waiting, pending or running.
    known: tuple[str, ...]
    #: Rows that are FAILED or KILLED and stay so: `retry` them.
    stopped: tuple[str, ...]

    @property
    def ids(self) -> frozenset[str]:
        """Every task of the submitted graph."""
        return frozenset((*self.added, *self.done, *self.known, *self.stopped))


@dataclass(frozen=True)
class WorkerRow:
    """One worker. `id` says host, pid and start; times are seconds since the epoch."""

    id: str
    pool: str
    started: float
    seen: float


@dataclass(frozen=True)
class AttemptRow:
    """One attempt at a task, as it ended. Times are UTC."""

    number: int
    outcome: str
    worker: str
    host: str
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    error: str | None
    #: Files with what the attempt printed.
    stdout: str | None
    stderr: str | None


@dataclass(frozen=True)
class TaskRow:
    """One task as the queue sees it. `id` is Luigi's task id, `params` the parameters as text. Times are UTC."""

    id: str
    name: str
    params: Mapping[str, str]
    #: One of `SHOWN`; BLOCKED when it waits behind a failed or killed task.
    state: str
    attempts: int
    error: str | None
    exit_code: int | None
    worker: str | None
    started: datetime | None
    ended: datetime | None
    #: The file with the standard output of the latest attempt; `stderr_of` names the one beside it.
    log: str | None
    module: str
    pool: str
    priority: float
    #: The failed or killed task that this one is blocked by.
    blocked_by: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    #: Failures since it was submitted or retried, and whether it stands for data that others make.
    failures: int = 0
    external: bool = False
    #: A task class that was stored by value (cloudpickle), for tasks defined in `__main__`.
    code: bytes | None = field(default=None, repr=False)
    #: Values of parameters whose texts do not give them back, such as None.
    values: Mapping[str, Any] = field(default_factory=dict)
    #: What the latest attempt told of itself: percentage, message, address.
    progress: float | None = None
    status_message: str | None = None
    tracking_url: str | None = None

    def task(self) -> luigi.Task:
        """The task itself, rebuilt; imports its module.

        Raises:
            ParameterError: the module no longer defines it, or makes another task of these parameters.
        """
        from superluigi.queue.rebuild import rebuild

        stored = {
            name: {"text": text, "value": self.values[name]} if name in self.values else text
            for name, text in self.params.items()
        }
        return rebuild(self.module, self.name, stored, self.code, self.tags, task_id=self.id)

    def as_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return {
            "id": self.id, "name": self.name, "params": dict(self.params), "state": self.state,
            "attempts": self.attempts, "error": self.error, "exit_code": self.exit_code,
            "worker": self.worker, "started": _iso(self.started), "ended": _iso(self.ended), "log": self.log,
            "module": self.module, "pool": self.pool, "priority": self.priority,
            "blocked_by": self.blocked_by, "tags": dict(self.tags), "run": self.run,
            "progress": self.progress, "status_message": self.status_message, "tracking_url": self.tracking_url,
        }  # fmt: skip


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def stderr_of(log: str) -> str:
    """The file with the standard error of the attempt whose standard output is in `log`."""
    return f"{log.removesuffix('stdout.log')}stderr.log"


def load_json(text: str | None) -> Any:
    """The value of a JSON column; an empty dict for none."""
    return json.loads(text) if text else {}


@dataclass(frozen=True)
class Result:
    """How an attempt ended. `kind`:

    succeeded · complete (was done already: not counted as an attempt) · failed · killed · requeued (put back
    by a worker that must go) · waiting (for `requirements`, yielded) · missing (external data, not there yet)
    """

    kind: str
    error: str | None = None
    exit_code: int | None = None
    log: str | None = None
    #: Rows of yielded requirements and what they need, and the ids of those that `run` waits for.
    specs: Sequence[TaskSpec] = ()
    codes: dict[str, bytes] = field(default_factory=dict)
    requirements: Sequence[str] = ()
    #: A failure after which there is no other attempt, whatever the retry policy says.
    final: bool = False


@dataclass(frozen=True)
class Answer:
    """What a child process says of an attempt that has ended."""

    result: Result
    #: Programs that it had left running, which were ended.
    left: tuple[str, ...] = ()
    #: The process should get no other attempt: this one has changed what cannot be put back.
    worn: bool = False


@dataclass(frozen=True)
class AttemptOrder:
    """What a child process must know of one attempt."""

    task_id: str
    name: str
    module: str
    params: str
    tags: str | None
    #: Digest of the class stored by value, if it is.
    code: str | None
    run: str
    worker: str
    log: str
    #: Ids of requirements that are complete without asking.
    known: frozenset[str]
    #: Say when the attempt begins: its time is limited.
    timed: bool
    #: Definition of the run, and the class by value, for a child that has heard of them never before.
    definition: str | None = None
    pickle: bytes | None = None
