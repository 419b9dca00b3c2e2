"""One attempt at a time makes an output, whatever process, run or queue it belongs to.

Before an attempt, a lease beside the record of the task's first output is taken (`Location.lease`). Who finds it taken
waits and takes the result, or fails, as `exclusive` says. An attempt that waits holds no lease, and one that ends for
requirements that it has asked for gives its own back: no attempt ever waits for a lease while others wait for its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

from superluigi import config, graph
from superluigi.errors import USERS_CODE, DefinitionError, GracefulTimeout, TaskRunningElsewhereError
from superluigi.execution.process import signals
from superluigi.runs import context as runs
from superluigi.runs import logs
from superluigi.runs.completeness import is_complete
from superluigi.storage import owner_token
from superluigi.storage.base import Holder, Lease, Location
from superluigi.tasks.runtime.attempt_context import AttemptContext
from superluigi.tasks.runtime.hooks import class_attr

_TURNS = "_superluigi_turns"
#: Between two looks at who is at work, seconds; the second where a look costs a request.
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_FAR = 0.02, 1.0, 5.0

Mode = Literal["auto", "wait", "fail", "off"]


class Turn:
    """The leases of one attempt; without any where there are none."""

    def __init__(self, task: Any, run: runs.RunContext, locations: list[Location]) -> None:
        self.task, self.run, self.locations = task, run, locations
        self.leases: list[Lease] = []

    def take(self, *, make: bool) -> Holder | None:
        """Take all leases or none; who has one of them, if it is taken."""
        try:
            for location in self.locations:
                lease = location.lease(make=make)
                if isinstance(lease, Holder):
                    self.let_go()
                    return lease
                if lease is not None:
                    self.leases.append(lease)
        except BaseException:
            self.let_go()
            raise
        return None

    def is_made(self) -> bool:
        """Whether another attempt has ended, since this run looked, in what this one was to make.

        What another task has made in its location is none of that: the attempt says so.
        """
        if not self.leases or not all(location.exists() for location in self.locations):
            return False
        makers = [(location.read_record_summary() or {}).get("task_id") for location in self.locations]
        return all(made in (None, self.task.task_id) for made in makers) and is_complete(self.task, self.run)

    def confirm(self) -> None:
        """Just before the commit.

        Raises:
            CommitConflictError: another process has taken a lease of ours.
        """
        for lease in self.leases:
            lease.confirm()

    def let_go(self) -> None:
        while self.leases:
            self.leases.pop().release()


def mode_of(task: Any, run: runs.RunContext) -> Mode:
    """What is in force for `task`: the run's word, the class's, the setting's."""
    chosen: Mode = run.exclusive or class_attr(task, "exclusive") or config.get("exclusive")
    return chosen


def _locations_of(task: Any, mode: Mode) -> list[Location]:
    """Where leases are taken, in the same order by every attempt: at one output on disks, at one elsewhere."""
    if mode == "off" or task.run is None:
        return []
    found: list[Location] = []
    with USERS_CODE:  # what is wrong with them is told when the task runs
        for target in graph.flatten(task.output()):
            if isinstance(location := graph.asked(target, "location"), Location):
                found.append(location)
    near = [location for location in found if location.leases_are_near]
    far = [location for location in found if not location.leases_are_near] if mode != "auto" else []
    return [min(some, key=_address) if len(some) > 1 else some[0] for some in (near, far) if some]


def _address(location: Location) -> str:
    return location.uri


def begin(task: object, run: runs.RunContext) -> Turn | Holder:
    """Have an attempt's turn, if no other attempt makes what it is to make; else that one.

    Raises:
        TaskRunningElsewhereError: another attempt makes it, and the task or run says "fail".
        DefinitionError: that one waits for the run of this one.
    """
    mode = mode_of(task, run)
    turn = Turn(task, run, _locations_of(task, mode))
    if not turn.locations:
        return turn
    # One that writes its outputs itself may want to make their folder itself.
    found = turn.take(make=mode != "auto" or hasattr(task, "suffix"))
    if found is not None:
        refuse_circle(run, turn.task.task_id)
        if mode == "fail":
            raise TaskRunningElsewhereError(
                f"{task} is {found}, and exclusive='fail' says not to wait. Wait for it (exclusive='wait'), end it "
                "there (superluigi cancel), or run again when it has ended."
            )
        return found
    task.__dict__.setdefault(_TURNS, {})[threading.get_ident()] = turn
    return turn


def refuse_circle(run: runs.RunContext, *asked: str) -> None:
    """See that a run does not wait for a task whose own run it is a part of.

    Raises:
        DefinitionError: one of the tasks of these ids is.
    """
    if own := run.within.intersection(asked):
        raise DefinitionError(
            f"{min(own)} is asked for by a run within its own run(), which would wait for itself for ever. Let run() "
            "ask for nothing that requires this task."
        )


def end(turn: Turn) -> None:
    """Let others make it."""
    turn.let_go()
    turns = turn.task.__dict__.get(_TURNS, {})
    for thread in [thread for thread, known in turns.items() if known is turn]:
        del turns[thread]


def holder_of(task: object, run: runs.RunContext, mode: Mode | None = None) -> Holder | None:
    """Who makes the outputs of `task` just now, as far as its leases tell."""
    return next(_holders(task, mode or mode_of(task, run)), None)


def _holders(task: object, mode: Mode) -> Iterator[Holder]:
    return filter(None, (location.holder() for location in _locations_of(task, mode)))


def is_at_work_elsewhere(task: object, run: runs.RunContext) -> bool:
    """Whether another process has the turn that an attempt of this one has lost, and `exclusive` says to wait for it.

    On a disk, a turn cannot be lost.
    """
    return mode_of(task, run) == "wait" and any(
        holder.far and not owner_token.is_own(holder.token) for holder in _holders(task, "wait")
    )


def confirm(task: object) -> None:
    """Before a commit: whether the attempt in this thread still has its turn.

    Raises:
        CommitConflictError: it has not.
    """
    turn: Turn | None = task.__dict__.get(_TURNS, {}).get(threading.get_ident())
    if turn is not None:
        turn.confirm()


def abandon(task: object) -> None:
    """Let others make it, although threads of attempts at it do not end."""
    for turn in list(task.__dict__.get(_TURNS, {}).values()):
        end(turn)


class alone:  # noqa: N801 - used like a function, around every attempt
    """Have an attempt's turn while this is open, waiting for it; False if what it was to make has been made meanwhile.

    Where the caller has it already, nothing happens.
    """

    def __init__(self, here: AttemptContext) -> None:
        self._here = here
        self._turn: Turn | None = None

    def __enter__(self) -> bool:
        task = self._here.task
        if self._here.behind_prefix or threading.get_ident() in task.__dict__.get(_TURNS, ()):
            return True
        turn, waited, pause = begin(task, self._here.run), False, FIRST_PAUSE
        while isinstance(turn, Holder):
            if not waited:
                told = str(turn)
                logs.logger.info("%s waits: it is %s", task, told)
                _say(task, told)
            waited = True
            try:
                time.sleep(pause)
            except KeyboardInterrupt:
                if signals.only_runs_tasks():  # its worker must go, and nothing has begun: another one waits on
                    raise GracefulTimeout(f"It has only waited: it is {turn}.") from None
                raise
            pause = longer(pause, turn)
            turn = begin(task, self._here.run)
        try:
            self._turn = turn
            if waited:
                _say(task, "")
            # run() that is called by hand runs; a scheduler has asked before whether it is complete
            return not ((waited or _is_scheduled(task)) and turn.is_made())
        except BaseException:
            end(turn)
            raise

    def __exit__(self, *exc_info: object) -> None:
        if self._turn is not None:
            end(self._turn)


def longer(pause: float, holder: Holder) -> float:
    """The next pause of one who waits."""
    return min(1.5 * pause, LONGEST_FAR if holder.far else LONGEST_PAUSE)


def _is_scheduled(task: object) -> bool:
    return getattr(task, "set_status_message", None) is not None


def _say(task: object, text: str) -> None:
    tell = getattr(task, "set_status_message", None)
    if tell is not None:
        with USERS_CODE:
            tell(text)
