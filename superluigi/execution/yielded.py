"""What `run` yields when it is a generator: requirements, each answered before it goes on."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import Any, TypeVar

from luigi.task import DynamicRequirements, Task, WrapperTask

from superluigi import graph
from superluigi.errors import DefinitionError
from superluigi.execution.process.forks import ends_forks
from superluigi.execution.process.process_state import at
from superluigi.execution.process.state_kinds import current_folder
from superluigi.runs.completeness import refuse_other_than_tasks

Value = TypeVar("Value")
#: Classes with checks, as far as this process has any: else no task is asked which external data it reads.
CHECKED_DATA: weakref.WeakSet[type] = weakref.WeakSet()
#: Yields on what cannot be answered here, and returns the answer.
Ask = Callable[[Any], Generator[Any, Any, Any]]
_NOT_STARTED = object()
_MOST_IN_LEAVING = 100
_ASKS_FOR_MORE = "generator ignored GeneratorExit"  # Python's words


def follow(steps: Generator[object, Any, Value], ask: Ask, first: object = _NOT_STARTED) -> Generator[Any, Any, Value]:
    """Drive `steps` to its end, which returns its value: `ask` answers what it yields, `first` if it has begun.

    Its `finally` blocks run when it ends or is left, not when the collector comes by.
    """
    try:
        wanted = next(steps) if first is _NOT_STARTED else first
        while True:
            wanted = steps.send((yield from ask(wanted)))
    except StopIteration as stop:
        value: Value = stop.value
        return value
    finally:
        _leave(steps)


def _leave(steps: Generator[object, Any, Any]) -> None:
    """Close a generator of the user's, also one that asks for more then: in a `finally`, or in an `except` of all."""
    for _ in range(_MOST_IN_LEAVING):
        try:
            return steps.close()
        except RuntimeError as error:
            if str(error) != _ASKS_FOR_MORE:
                raise


def start(steps: Generator[object, Any, Value]) -> Value | Generator[object, Any, Value]:
    """Start a generator: itself, to be gone on with, if it yields requirements, else the value that it returned."""
    try:
        first = next(steps)
    except StopIteration as stop:
        value: Value = stop.value
        return value
    return follow(steps, _passed_on, first)


def _passed_on(wanted: object) -> Generator[object, Any, object]:
    return (yield wanted)


def _admit(tasks: Iterable[Task]) -> None:
    """Have external data checked before a task of Luigi's reads it, also through tasks that only gather others."""
    for one in tasks:
        if isinstance(one, WrapperTask):
            _admit(one.deps())
        elif (admit := graph.written(one, "_superluigi_admit")) is not None:
            admit()


def exhaust(task: Task, complete: Callable[[Task], bool]) -> tuple[Task, ...]:
    """Call `run`; follow it when it is a generator; the requirements it waits for, if any."""
    with ends_forks():
        return _exhausted(task, complete)


def _exhausted(task: Task, complete: Callable[[Task], bool]) -> tuple[Task, ...]:
    folder = current_folder()
    # ours see to it themselves, where what is printed is kept
    admits = bool(CHECKED_DATA) and not hasattr(type(task), "_superluigi_needs_process")
    if admits:
        _admit(task.deps())
    steps = task.run()
    if steps is None or not isinstance(steps, Generator):
        refuse_async(steps, task)
        return ()

    def ask(yielded: object) -> Generator[tuple[Task, ...], None, object]:
        with at(folder):  # whichever folder the task has gone to, relative outputs mean this one
            wanted = settled(yielded, task)
            if not _all_complete(wanted, complete):
                yield tuple(graph.flatten(wanted.requirements))
            if admits:
                _admit(graph.flatten(wanted.requirements))
            return answer_to(wanted)

    with contextlib.closing(follow(steps, ask)) as waiting:
        return next(waiting, ())


def _all_complete(wanted: DynamicRequirements, complete: Callable[[Task], bool]) -> bool:
    """Whether nothing that was asked for need be made.

    One whose `complete()` raises fails the task that asked for it, after all others have been made.
    """
    if wanted.custom_complete is not None:
        return bool(wanted.complete(complete))
    raised: Exception | None = None
    for task in graph.flatten(wanted.requirements):
        try:
            if not complete(task):
                return False
        except Exception as error:  # noqa: BLE001 - user code
            raised = raised or error
    if raised is not None:
        raise raised
    return True


def settled(wanted: object, task: object) -> DynamicRequirements:
    """What `run` has yielded, with generators and the like turned into lists: they can be walked once only.

    Raises:
        DefinitionError: something in it is no task.
    """
    asked: DynamicRequirements = wanted if isinstance(wanted, DynamicRequirements) else DynamicRequirements(wanted)
    asked.requirements = graph.map_structure(_itself, asked.requirements)
    for one in graph.flatten(asked.requirements):
        refuse_other_than_tasks(one, "A yield in run()", task)
    return asked


def _itself(item: object) -> object:
    return item


def answers_itself(wanted: object) -> bool:
    """Whether what was yielded is of a class of the user's own that says what the answer is."""
    return isinstance(wanted, DynamicRequirements) and type(wanted).paths is not DynamicRequirements.paths


def answer_to(wanted: DynamicRequirements) -> object:
    """What a `yield` gives to `run`: the outputs, in the shape that was asked for."""
    if answers_itself(wanted):
        return wanted.paths
    return graph.map_structure(lambda task: task.output(), wanted.requirements)


def refuse_async(steps: object, task: object) -> None:
    """Explain that what `run` has returned is not awaited.

    Raises:
        DefinitionError: it is a coroutine, or an asynchronous generator.
    """
    if steps is None or not isinstance(steps, (Awaitable, AsyncGenerator)):
        return
    close = getattr(steps, "close", None)
    if close is not None:
        close()  # else Python warns that it was never awaited
    raise DefinitionError(
        f"run() of {task} is asynchronous, so calling it runs nothing. Write `def run(self): asyncio.run(…)`."
    )
