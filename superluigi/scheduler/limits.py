"""`rate_limits`: how many tasks of a resource, class or channel may run, at once or per time."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from luigi.task import Task

from superluigi import graph
from superluigi.arguments import is_whole
from superluigi.config import suggestion
from superluigi.errors import DefinitionError, OptionError
from superluigi.luigi_compat import register

SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
#: When to look again for a place that is held by a task on its way (seconds).
_SOON = 0.05
_LIBRARIES = ("luigi.", "superluigi.")
_RATE = re.compile(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+)")


@dataclass(frozen=True)
class Rate:
    """At most `count` starts within any `seconds`."""

    count: int
    seconds: float


@dataclass(frozen=True)
class Limits:
    """`rate_limits` as the user gave them, sorted into limits at once and per time."""

    at_once: Mapping[str, int] = field(default_factory=dict)
    per_time: Mapping[str, Rate] = field(default_factory=dict)

    @staticmethod
    def parse(rate_limits: Mapping[str, int | str] | None) -> Limits:
        """Read `{"gpu": 1, "TrainTask": 2, "api": "10/minute"}`.

        Raises:
            OptionError: a value is neither a count nor `count/unit` (`"10/minute"`, `"3/10s"`).
        """
        at_once: dict[str, int] = {}
        per_time: dict[str, Rate] = {}
        for name, value in (rate_limits or {}).items():
            if is_whole(value) and int(value) >= 0:
                at_once[name] = int(value)
            else:
                per_time[name] = _rate(name, value)
        return Limits(at_once, per_time)

    def __bool__(self) -> bool:
        return bool(self.at_once or self.per_time)

    def refuse_unknown(self, resources: Iterable[str] = ()) -> None:
        """Refuse names that no task class in this process, and none of the run's `resources`, can mean.

        Raises:
            OptionError: names one, and the nearest that is known.
        """
        wanted = {*self.at_once, *self.per_time}
        known: set[str] = set(resources)
        for cls in register.classes():
            known |= {base.__name__ for base in cls.__mro__} | {cls.get_task_family()}
            channel, own = getattr(cls, "channel", None), cls.resources
            known |= _channels(channel) | (set(own) if isinstance(own, Mapping) else set())
            if not wanted - known:
                return
            if not (_is_written(channel) and _is_written(own)) and not cls.__module__.startswith(_LIBRARIES):
                return  # only its tasks know
        unknown = sorted(wanted - known)
        if unknown:
            raise OptionError(
                f"rate_limits names {', '.join(map(repr, unknown))}, but no task class, channel or resource is called "
                f"so.{suggestion(unknown[0], known)} It would limit nothing."
            )

    def resources_of(self, task: Task) -> dict[str, int]:
        """What `task` takes: its own resources, and one of each limit on its class or channel."""
        own: dict[str, int] = task.process_resources()
        if not self:
            return own
        taken = dict(own or {})
        names = {cls.__name__ for cls in type(task).__mro__} | {task.task_family}
        names |= _channels(graph.written(task, "channel"))
        for limits in (self.at_once, self.per_time):
            for name in limits:
                if name in names:
                    taken.setdefault(name, 1)
        return taken


def _channels(channel: object) -> set[str]:
    """The channels of a task: a name, or several."""
    if isinstance(channel, str):
        return {channel}
    if isinstance(channel, Iterator):  # whoever asks next would find nothing, and be limited by nothing
        raise DefinitionError(f"channel is {channel!r:.80}, which can be read once only. Give a list: [*…].")
    if isinstance(channel, Iterable):
        return {name for name in channel if isinstance(name, str)}
    return set()


def _is_written(value: object) -> bool:
    """Whether a class says a setting itself, and not by a parameter or property of each task."""
    return value is None or isinstance(value, (str, list, tuple, set, frozenset, Mapping))


def _rate(name: str, value: object) -> Rate:
    match = _RATE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    unit = None if match is None else next((s for u, s in SECONDS.items() if _abbreviates(match[3], u)), None)
    if match is None or unit is None or not int(match[1]) or not float(match[2] or 1):
        raise OptionError(
            f"rate_limits[{name!r}]={value!r} is neither a number of tasks at once (2) nor a number per time "
            f"('10/minute', '3/10s'; units: {', '.join(SECONDS)})."
        )
    return Rate(int(match[1]), float(match[2] or 1) * unit)


def _abbreviates(word: str, unit: str) -> bool:
    return word in (unit, unit[0], unit[:3], f"{unit[:3]}s", f"{unit}s")


class Rates:
    """Counts starts per time: a sliding window for each limited name."""

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        self._rates = dict(rates)
        self._starts: dict[str, deque[float]] = {name: deque() for name in self._rates}
        #: How many have been handed out and are still on their way.
        self._coming = dict.fromkeys(self._rates, 0)
        #: When the earliest task that was held back may start; None when none was.
        self.due: float | None = None

    def __contains__(self, name: object) -> bool:
        return name in self._rates

    def forget_due(self) -> None:
        self.due = None

    def allows(self, resources: Mapping[str, int]) -> bool:
        """Whether a task that takes `resources` may start now; otherwise `due` says when."""
        if not self._rates:
            return True
        waits = [wait for name in resources if name in self._rates and (wait := self._free_at(name)) is not None]
        if waits:
            self.due = max(waits) if self.due is None else min(self.due, max(waits))
        return not waits

    def _free_at(self, name: str) -> float | None:
        rate, starts = self._rates[name], self._starts[name]
        now = time.time()
        while starts and starts[0] <= now - rate.seconds:
            starts.popleft()
        over = len(starts) + self._coming[name] - rate.count
        if over < 0:
            return None
        return starts[over] + rate.seconds if over < len(starts) else now + _SOON

    def acquire(self, resources: Mapping[str, int]) -> None:
        """A task that takes `resources` starts now."""
        for name in resources:
            if name in self._rates:
                self._starts[name].append(time.time())

    def defer(self, resources: Mapping[str, int]) -> bool:
        """What has just been taken is only on its way; `start` will say when it starts. False if nothing is limited."""
        names = [name for name in resources if name in self._rates]
        for name in names:
            self._starts[name].pop()
            self._coming[name] += 1
        return bool(names)

    def start(self, resources: Mapping[str, int]) -> None:
        """A deferred task starts now."""
        for name in resources:
            if name in self._rates:
                self._coming[name] -= 1
                self._starts[name].append(time.time())
