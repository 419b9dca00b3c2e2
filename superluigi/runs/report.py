"""What came of a run, as pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from superluigi.errors import RemoteError, TaskFailedError
from superluigi.runs import tracebacks
from superluigi.runs.uncaught import end_in_a_line
from superluigi.terminal import cut_middle


@dataclass(frozen=True)
class Failure:
    """The last failure of one task that did not succeed in the end."""

    task_id: str
    #: The task as Luigi prints it: `Family(param=value, …)`.
    task: str
    #: "failed", "missing" (an external input), "timeout", "cancelled", "lost" (its process died), "scheduling",
    #: "circle" (it waits for itself) or "disabled".
    kind: str
    error: BaseException
    #: The formatted traceback, "" where there is none.
    traceback: str = ""
    #: The last lines that the attempt logged.
    log: tuple[str, ...] = ()
    attempts: int = 1
    host: str = ""
    #: The task itself, where this process has it.
    instance: Any = field(default=None, repr=False, compare=False)
    #: What it printed, where that is known without the task.
    log_file: str = ""

    @property
    def family(self) -> str:
        """The task's class, as Luigi prints it."""
        return self.task.partition("(")[0]

    def explained(self) -> BaseException:
        """The error; one that comes from another process has lost its frames, so they are chained as text."""
        error = self.error
        if error.__traceback__ is None and error.__cause__ is None and tracebacks.end_of_frames(self.traceback):
            error.__cause__ = RemoteError(f"\n{self.traceback}", self.traceback)
        return error


@dataclass(frozen=True)
class FailedAttempt:
    """One attempt that failed, whatever came of the task later."""

    task_id: str
    #: `ValueError: no such column`.
    error: str
    #: Seconds since the epoch.
    started: float
    #: Seconds.
    duration: float
    #: Host and process that ran it.
    worker: str


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    run_id: str
    #: Luigi's execution summary.
    summary: str
    #: The name of Luigi's LuigiStatusCode.
    status: str
    #: Whether everything that was asked for is complete now. A task that failed and then succeeded is.
    success: bool
    #: Task id → "complete" (was so before), "ran", "failed", "cancelled", "missing", "blocked", "disabled",
    #: "scheduling failed", "elsewhere" (another worker has it), "ended" (unfinished, because something else failed) or
    #: "not run".
    outcomes: Mapping[str, str]
    #: In the order in which they happened; missing external inputs last.
    failures: tuple[Failure, ...] = ()
    #: Id of a blocked task → ids of the failed or missing tasks that block it.
    blocked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Id → text of a blocked task, for as many as `describe` names.
    names: Mapping[str, str] = field(default_factory=dict)
    #: Ids of tasks that this run made, in the order in which they ended.
    made: tuple[str, ...] = ()
    #: Every attempt that failed, in the order in which they ended; also of tasks that succeeded later.
    failed_attempts: tuple[FailedAttempt, ...] = ()

    #: The same as tasks, as far as this process has them.
    made_tasks: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    #: Tasks that were found complete, in the order in which they were asked, where this process has them.
    found_complete: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of external inputs that are not there."""
        return tuple(f.task_id for f in self.failures if f.kind == "missing")

    def counts(self) -> dict[str, int]:
        """How many tasks ended in which way."""
        counted: dict[str, int] = {}
        for outcome in self.outcomes.values():
            counted[outcome] = counted.get(outcome, 0) + 1
        return counted

    def describe(self) -> str:
        """The failures in words: alike ones together, with their last log lines and whom they block."""
        return "\n".join(_describe_group(group, self.blocked, self.names) for group in grouped(self.failures))

    def raise_failure(self, *, told_already: bool = False) -> None:
        """Raise TaskFailedError, chained to the first failure, unless the run was a success.

        `told_already`: stdout has named the failures.
        """
        if self.success:
            return
        for failure in self.failures:
            tracebacks.let_go(failure.error)
        first = self.failures[0].explained() if self.failures else None
        told = [(failure.task, str(failure.error)) for failure in self.failures]
        error = TaskFailedError(self.describe() or self._unfinished(), told)
        error.told = told_already and bool(told)
        error.in_short = self._in_short(type(error).__name__)
        end_in_a_line(error)
        try:
            raise error from first
        finally:
            del error  # its traceback names this frame: no circle keeps it

    def _unfinished(self) -> str:
        """What is said where nothing has failed."""
        left = ", ".join(f"{count} {word}" for word, count in self.counts().items() if word not in ("complete", "ran"))
        return f"The run ended unfinished: {left}. Nothing of it failed here; run it again to go on.\n{self.summary}"

    def _in_short(self, name: str) -> tuple[str, ...]:
        """The failures in at most ten lines: the first one with the user's own frames and its log."""
        if not self.failures:
            return ()
        first, more = self.failures[0], len(self.failures) - 1
        reason = shortened(said(first.error), 300).splitlines()
        lines = [f"{name}: {shortened(first.task, 300)} {WORDS[first.kind]}", *reason[:3]]
        for frame in tracebacks.users_frames(first.traceback)[-3:]:
            lines.append(f"    {frame.file}:{frame.line} in {frame.function}: {shortened(frame.code, 100)}")
        lines += [f"    log: {first.log_file}"] if first.log_file else []
        lines += [f"and {more} more failed: print(error) of the TaskFailedError names them"] if more else []
        return tuple(lines[:10])


#: Characters of an error's text that are told beside others; all of it is in the log and in `Failure.error`.
_TOLD = 600


def shortened(text: str, width: int = _TOLD) -> str:
    """The first and the last words of a long text."""
    return cut_middle(text.strip(), width)


def said(error: BaseException) -> str:
    """Class and message; what stands for the error of another process has them in its message already."""
    told = str(error).strip()
    if type(error) is RemoteError:
        return told or type(error).__name__
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def grouped(failures: Sequence[Failure]) -> list[list[Failure]]:
    groups: dict[tuple[str, type[BaseException], str], list[Failure]] = {}
    for failure in failures:
        family = failure.task if failure.kind == "circle" else failure.family  # each circle is another one
        groups.setdefault((failure.kind, type(failure.error), family), []).append(failure)
    return list(groups.values())


_NAMED = 5
#: So many of those that a failure blocks are named.
BLOCKED_NAMED = 8
WORDS = {
    "failed": "failed",
    "missing": "is missing: nothing in this run makes it",
    "timeout": "took too long",
    "cancelled": "was cancelled",
    "lost": "lost its process",
    "scheduling": "could not be scheduled",
    "circle": "waits for itself",
    "disabled": "is disabled",
}


def _describe_group(group: list[Failure], blocked: Mapping[str, tuple[str, ...]], names_of: Mapping[str, str]) -> str:
    first = group[0]
    names = ", ".join(shortened(f.task, 300) for f in group[:_NAMED])
    if len(group) > _NAMED:
        names += f" and {len(group) - _NAMED} more"
    count = f"{len(group)} tasks: " if len(group) > 1 else ""
    tries = f" after {first.attempts} attempts" if first.attempts > 1 else ""
    lines = [f"{count}{names} {WORDS[first.kind]}{tries}: {shortened(said(first.error))}"]
    lines += [f"    | {shortened(line, 200)}" for line in first.log[-5:]]
    if first.log_file:
        lines.append(f"    log: {first.log_file}")
    ids = {f.task_id for f in group}
    held = [task for task, by in blocked.items() if not ids.isdisjoint(by)]
    if held:
        more = f" and {len(held) - BLOCKED_NAMED} more" if len(held) > BLOCKED_NAMED else ""
        named = ", ".join(shortened(names_of.get(task, task), 300) for task in held[:BLOCKED_NAMED])
        lines.append(f"    blocks {named}{more}")
    return "\n".join(lines)
