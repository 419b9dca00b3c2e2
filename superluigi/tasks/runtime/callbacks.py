"""Callbacks of one task, called in the process that asked for them, once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import luigi
from luigi.event import Event

from superluigi.errors import DefinitionError
from superluigi.runs import logs, tracebacks

_guard = threading.Lock()
_completed: dict[str, list[Callable[[Any], object]]] = {}
_failed: dict[str, list[Callable[[Any, BaseException], object]]] = {}
_tasks: dict[str, Any] = {}


def on_completed(task: luigi.Task, callback: Callable[[Any], object]) -> None:
    """Call `callback(task)` when `task` is complete: now, or in this process as soon as a run here has made it."""
    _refuse_what_cannot_be_called(callback)
    _listen()
    if task.complete():
        _call(callback, task)
        return
    with _guard:
        _completed.setdefault(task.task_id, []).append(callback)
        _tasks.setdefault(task.task_id, task)


def on_failed(task: luigi.Task, callback: Callable[[Any, BaseException], object]) -> None:
    """Call `callback(task, error)` when a run of this process has given the task up; not for tries that are retried."""
    _refuse_what_cannot_be_called(callback)
    with _guard:
        _failed.setdefault(task.task_id, []).append(callback)
        _tasks.setdefault(task.task_id, task)


def _refuse_what_cannot_be_called(callback: object) -> None:
    if not callable(callback):
        raise DefinitionError(f"{callback!r} is no callback: give a function of the task.")


def settle(failures: Mapping[str, BaseException], completed: Iterable[str] = ()) -> None:
    """A run has ended: tell of what failed in it (task id → error), and of what was made elsewhere (task ids)."""
    for task_id in completed:
        with _guard:
            task = _tasks.get(task_id)
        if task is not None:
            _completed_here(task)
    for task_id, error in failures.items():
        with _guard:
            callbacks = _failed.pop(task_id, [])
            task = _tasks.get(task_id)
        for callback in callbacks:
            _call(callback, task, error)


def awaited() -> list[str]:
    """Ids of the tasks that have callbacks which were not called yet."""
    with _guard:
        return sorted({*_completed, *_failed})


def _completed_here(task: luigi.Task) -> None:
    with _guard:
        callbacks = _completed.pop(task.task_id, [])
        if callbacks:
            _failed.pop(task.task_id, None)
    for callback in callbacks:
        _call(callback, task)


def _call(callback: Callable[..., object], *args: object) -> None:
    try:
        callback(*args)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's callback: reported, and nothing else is harmed
        name = getattr(callback, "__qualname__", type(callback).__name__)
        logs.logger.error("The callback %s of %s failed\n%s", name, args[0], tracebacks.text_of(error))


@functools.cache
def _listen() -> None:
    """Hear of completed tasks by Luigi's events, which fire in the calling process under every executor."""
    for event in (Event.SUCCESS, Event.DEPENDENCY_PRESENT):
        luigi.Task.event_handler(event)(_completed_here)
