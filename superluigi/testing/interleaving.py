"""Every order in which several actors may take their steps, up to a bound, in one process.

    class Scene(Interleaved):
        def actors(self):
            return {"A": self.write_a, "B": self.write_b}

        def end(self, outcomes):
            assert ...

    explored = explore(Scene, preemptions=2, events=1)

Actors are plain functions in threads of which one runs at a time: each waits before every step (`step`, a storage
operation) until it is its turn. The search is depth first, by playing each order from the beginning; what an order was
comes with a failure, and `replay` plays it again. An actor may die before any of its steps (`death`), and the scene may
have other events: a lease that lapses, power that is cut. `interleaving_files.as_processes`
makes actors look like processes, and each call of the system for a file a step.
"""

from __future__ import annotations

import abc
import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

Choice = tuple[str, str]  # ("step", actor) or ("event", name)


class Died(BaseException):
    """What ends an actor that has died; it does nothing more than to leave its function."""


class InterleavingError(AssertionError):
    """An order of steps in which something is not as promised. `choices` plays it again."""

    def __init__(self, what: BaseException, choices: Sequence[Choice], story: Sequence[str]) -> None:
        told = "\n".join(f"  {line}" for line in story)
        super().__init__(f"{type(what).__name__}: {what}\nin the order\n{told}\nreplay(scene, {list(choices)!r})")
        self.choices, self.story = list(choices), list(story)


class NotRepeatableError(RuntimeError):
    """The same choices led to other steps: something besides the schedule decides (a clock, a random number)."""


@dataclass(frozen=True)
class Event:
    """Something that happens between two steps, once at most; `kills` are actors that it ends."""

    action: Callable[[], object]
    kills: tuple[str, ...] = ()


class Interleaved(abc.ABC):
    """What is played: made anew for each order."""

    #: Whether what has died leaves its function at once, or stays where it is until the end, as a killed process
    #: would, so that not even its `finally` blocks act.
    dead_unwind = False

    @abc.abstractmethod
    def actors(self) -> Mapping[str, Callable[[], object]]:
        """What runs at the same time, by name."""

    def events(self) -> Mapping[str, Event]:
        """What may happen besides; by itself the death of each actor."""
        return {f"{name} dies": Event(lambda: None, (name,)) for name in self.actors()}

    def died(self, name: str) -> None:  # noqa: B027  # a scene need not
        """Give back what the system would take from a process that died: its locks."""

    def after_each_step(self) -> None:  # noqa: B027  # a scene need not
        """Look whether things are right at this instant; raises if not."""

    def end(self, outcomes: Mapping[str, BaseException | None]) -> None:  # noqa: B027  # a scene need not
        """Look whether all is right when nothing runs any more. An outcome is what the actor raised, or None."""

    def close(self) -> None:  # noqa: B027  # a scene need not
        """Remove what the scene has made."""


@dataclass
class Explored:
    """How many orders were played; `is_complete` if there are no others within the bound."""

    orders: int = 0
    pruned: int = 0
    is_complete: bool = False
    longest: int = 0


@dataclass
class _Node:
    """One choice of an order: what could come next, and what was tried of it."""

    options: list[Choice]
    asleep: set[str] = field(default_factory=set)
    labels: Mapping[str, str] = field(default_factory=dict)
    chosen: int = 0


class _Actor:
    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name, self.work = name, work
        self.go = threading.Lock()
        self.go.acquire()
        self.label = "begin"
        self.ready: Callable[[], bool] | None = None
        self.has_ended = self.is_dead = self.yields = False
        self.outcome: BaseException | None = None
        self.ended = threading.Event()


class _Here(threading.local):
    run: _Run | None = None
    actor: _Actor | None = None


_here = _Here()


def step(label: str, *, yields: bool = False) -> None:
    """Say that a step comes next, and wait for one's turn; nothing happens outside of actors.

    With `yields` (a pause, a look again later) the others come first, and that is no preemption.

    Raises:
        Died: the actor's life ends here.
    """
    if _here.run is not None and _here.actor is not None:
        _here.run.pause(_here.actor, label, None, yields)


def wait_for(label: str, ready: Callable[[], bool]) -> None:
    """As `step`, but one's turn does not come before `ready` says so; it is asked between others' steps."""
    if _here.run is not None and _here.actor is not None:
        _here.run.pause(_here.actor, label, ready, False)


def current() -> str | None:
    """The name of the actor that runs this."""
    return None if _here.actor is None else _here.actor.name


def is_over(name: str) -> bool:
    """Whether an actor of the order that is played has died or ended; a thread of others has not."""
    run = _Playing.run
    actor = run.actors.get(name) if run else None
    return actor is not None and (actor.has_ended or actor.is_dead)


class _Playing:
    run: _Run | None = None


class _Run:
    """One order, from the beginning to its end."""

    def __init__(self, scene: Interleaved, path: list[_Node], bound: _Bound, pool: ThreadPoolExecutor) -> None:
        self.scene, self.path, self.bound, self.pool = scene, path, bound, pool
        self.actors = {name: _Actor(name, work) for name, work in scene.actors().items()}
        self.events = dict(scene.events())
        self.preemptions, self.happened = 0, 0
        self.depth = 0
        self.choices: list[Choice] = []
        self.story: list[str] = []
        self.error: BaseException | None = None
        self.is_over = self.is_redundant = False
        self.done = threading.Event()
        self.last: _Actor | None = None
        self.here: _Actor | None = None
        self.leaving: _Actor | None = None

    def play(self) -> None:
        _Playing.run = self
        for actor in self.actors.values():
            self.pool.submit(self._live, actor)
        self._hand_over(None)
        self.done.wait()
        try:
            if self.error is None and not self.is_redundant:
                outcomes = {name: actor.outcome for name, actor in self.actors.items()}
                with self._noted():
                    self.scene.end(outcomes)
        finally:
            self.is_over = True
            for actor in self.actors.values():
                if not actor.has_ended:
                    actor.is_dead = True
                    actor.go.release()
                actor.ended.wait()
            _Playing.run = None
        if self.error is not None:
            raise self.error

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except NotRepeatableError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001  # it is raised where the order was played from
            self.error = InterleavingError(error, self.choices, self.story)
            self.error.__cause__ = error

    def _live(self, actor: _Actor) -> None:
        _here.run, _here.actor = self, actor
        actor.go.acquire()
        try:
            if not actor.is_dead:
                actor.work()
        except BaseException as error:  # noqa: BLE001  # told to the scene
            actor.outcome = error
        finally:
            _here.run = _here.actor = None
            hands_over = not actor.is_dead or self.leaving is actor
            actor.has_ended = True
            if hands_over and not self.is_over:
                self.leaving = None
                self._hand_over(None)
            actor.ended.set()

    def pause(self, actor: _Actor, label: str, ready: Callable[[], bool] | None, yields: bool) -> None:
        if actor.is_dead or self.is_over:
            raise Died
        actor.label, actor.ready, actor.yields = label, ready, yields
        self._hand_over(actor)
        actor.ready = None
        if actor.is_dead or self.is_over:
            raise Died

    def _hand_over(self, me: _Actor | None) -> None:
        following: _Actor | None = None
        _here.actor, self.here = None, me  # what the scene does now is no actor's
        with self._noted():
            if self.choices:
                self.scene.after_each_step()
            following = self._following()
        _here.actor = me
        if following is me and me is not None:
            return
        if following is None or self.error is not None:
            self.done.set()
        else:
            following.go.release()
        if me is not None:
            me.go.acquire()

    def _following(self) -> _Actor | None:
        """Who takes the next step; events that come before it happen here."""
        while True:
            node = self._node()
            if node is None:
                return None
            kind, name = choice = node.options[node.chosen]
            self.choices.append(choice)
            if kind == "step":
                actor = self.actors[name]
                self.story.append(f"{name}: {actor.label}")
                last = self.last
                if last is not None and last is not actor and self._can_go(last) and not last.yields:
                    self.preemptions += 1
                self.last = actor
                return actor
            self._happen(name)
            if self.leaving is not None:
                return self.leaving

    def _happen(self, name: str) -> None:
        self.story.append(f"-- {name}")
        self.happened += 1
        event = self.events.pop(name)
        for killed in event.kills:
            actor = self.actors[killed]
            if actor.has_ended or actor.is_dead:
                continue
            actor.is_dead = True
            actor.outcome = Died()
            if self.scene.dead_unwind and actor is self.here:  # it is here: it leaves first, and then hands over
                self.leaving = actor
            elif self.scene.dead_unwind:
                actor.go.release()
                actor.ended.wait()
            self.scene.died(killed)
        event.action()

    def _can_go(self, actor: _Actor) -> bool:
        return not (actor.has_ended or actor.is_dead) and (actor.ready is None or actor.ready())

    def _node(self) -> _Node | None:
        """The choice at this point: the known one of the path, or a new one; None where the order ends."""
        able = [actor for actor in self.actors.values() if self._can_go(actor)]
        if not able:
            stuck = [actor for actor in self.actors.values() if not (actor.has_ended or actor.is_dead)]
            if stuck:
                raise RuntimeError("all wait for each other: " + ", ".join(f"{a.name} at {a.label}" for a in stuck))
            return None
        options = self._options(able)
        labels = {actor.name: actor.label for actor in able}
        if self.depth < len(self.path):
            node = self.path[self.depth]
            if node.labels != labels:
                raise NotRepeatableError(f"{node.labels} became {labels} after {self.story}")
        else:
            asleep = self._asleep()
            options = [choice for choice in options if choice[0] == "event" or choice[1] not in asleep]
            if not options:
                self.is_redundant = True
                return None
            node = _Node(options, asleep, labels)
            self.path.append(self.bound.chosen(node))
        self.depth += 1
        return node

    def _options(self, able: list[_Actor]) -> list[Choice]:
        """What is within the bound; first who ran last."""
        goes_on = self.last if self.last in able else None
        allowed = able
        if goes_on is not None and goes_on.yields:
            allowed, goes_on = [*(actor for actor in able if actor is not goes_on), goes_on], None
        if goes_on is not None and self.bound.preemptions is not None and self.preemptions >= self.bound.preemptions:
            allowed = [goes_on]
        if goes_on is not None and goes_on in allowed:
            allowed = [goes_on, *(actor for actor in allowed if actor is not goes_on)]
        options: list[Choice] = [("step", actor.name) for actor in allowed]
        if self.happened < self.bound.events:
            for name, event in self.events.items():
                if not event.kills or any(
                    not (self.actors[k].has_ended or self.actors[k].is_dead or self.actors[k].label == "begin")
                    for k in event.kills
                ):
                    options.append(("event", name))
        return options

    def _asleep(self) -> set[str]:
        """Actors whose next step, taken now, leads to what another order has shown already (sleep sets)."""
        independent = self.bound.independent
        if independent is None or not self.path:
            return set()
        before = self.path[self.depth - 1]
        kind, name = before.options[before.chosen]
        if kind == "event":
            return set()
        tried = {actor for what, actor in before.options[: before.chosen] if what == "step"}
        return {
            other
            for other in before.asleep | tried
            if other in before.labels and independent(before.labels[other], before.labels[name])
        }


@dataclass
class _Bound:
    preemptions: int | None
    events: int
    independent: Callable[[str, str], bool] | None = None
    chance: random.Random | None = None

    def chosen(self, node: _Node) -> _Node:
        """A new choice: the first of its options, or any."""
        if self.chance is not None:
            # the one that runs goes on, mostly: else all switches come at the beginning
            node.chosen = 0 if self.chance.random() < 0.75 else self.chance.randrange(len(node.options))
        return node


def explore(
    make: Callable[[], Interleaved], *, preemptions: int | None = 2, events: int = 0, limit: int | None = None,
    independent: Callable[[str, str], bool] | None = None,
) -> Explored:  # fmt: skip
    """Play every order in which actors are preempted at most so often, and so many events happen.

    `independent` says of two steps (by their labels) that their order makes no difference; orders that differ in such
    only are played once. It needs `preemptions=None`: a bound would count the orders that stand for others.

    Raises:
        InterleavingError: in one of them something is wrong; it says which.
        NotRepeatableError: the scene is not the same each time.
    """
    if independent is not None and preemptions is not None:
        raise ValueError("independent needs preemptions=None")
    bound, told = _Bound(preemptions, events, independent), Explored()
    path: list[_Node] = []
    with ThreadPoolExecutor(thread_name_prefix="actor") as pool:
        while limit is None or told.orders < limit:
            _play(make, path, bound, pool, told)
            while path and path[-1].chosen + 1 >= len(path[-1].options):
                path.pop()
            if not path:
                told.is_complete = True
                break
            path[-1].chosen += 1
    return told


def sample(
    make: Callable[[], Interleaved], count: int, *, seed: int, preemptions: int | None = None, events: int = 1
) -> Explored:
    """Play so many orders drawn by lot, no two of them equal; fewer if there seem to be no more.

    Raises:
        InterleavingError: in one of them something is wrong; it says which.
    """
    bound, told = _Bound(preemptions, events, chance=random.Random(seed)), Explored()
    seen: set[int] = set()
    with ThreadPoolExecutor(thread_name_prefix="actor") as pool:
        for _ in range(2 * count):
            path: list[_Node] = []
            _play(make, path, bound, pool, told)
            seen.add(hash(tuple(node.chosen for node in path)))
            told.orders = len(seen)
            if len(seen) >= count:
                break
    return told


def replay(make: Callable[[], Interleaved], choices: Sequence[Choice]) -> None:
    """Play one order.

    Raises:
        InterleavingError: it is wrong.
    """
    wanted = iter(choices)

    class Told(_Bound):
        def chosen(self, node: _Node) -> _Node:
            node.chosen = node.options.index(next(wanted, node.options[0]))
            return node

    with ThreadPoolExecutor(thread_name_prefix="actor") as pool:
        _play(make, [], Told(None, len(choices)), pool, Explored())


def _play(
    make: Callable[[], Interleaved], path: list[_Node], bound: _Bound, pool: ThreadPoolExecutor, told: Explored
) -> None:
    scene = make()
    try:
        run = _Run(scene, path, bound, pool)
        run.play()
    finally:
        scene.close()
    told.orders += not run.is_redundant
    told.pruned += run.is_redundant
    told.longest = max(told.longest, len(run.choices))
