"""Init steps: light work that runs in the process of the task that wants it, just before its `run`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from superluigi import graph
from superluigi.errors import DefinitionError
from superluigi.tasks import values
from superluigi.tasks.base import Task


class InitStep(Task):
    """A step such as loading a model: `Evaluate(data=…, init=(LoadModel(model=train),))`.

    Its `run` is called in the consumer's process just before the consumer's own, whenever that runs. It is part of
    the consumer's identity, and what it requires is required by the consumer. It makes no output and is never
    scheduled. `run` may take any of `inputs` (the values of what the step requires), `input_path` (their paths)
    and `task` (the consumer, to set attributes on); what it returns is found as `self.init[0].value`.
    """

    run_names: ClassVar[frozenset[str]] = frozenset({"inputs", "input_path", "task"})
    #: The mark that `init=…` looks for.
    _superluigi_init_step: ClassVar[bool] = True
    #: What `run` returned when it was last run in this process.
    value: ClassVar[Any] = None

    def complete(self) -> bool:
        """Always: there is nothing to be made."""
        return True

    def output(self) -> Any:
        return []

    def _superluigi_attempt(self, user_run: Callable[..., object]) -> object:
        del user_run
        raise DefinitionError(f"{self} is an init step: pass it to a task (init=({type(self).__name__}(…),)).")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "value"}


def run_steps(task: Any, reader: values.Reader) -> None:
    """Run the init steps of `task`, in order."""
    for step in task.init:
        names = inspect.signature(type(step).run).parameters
        given: dict[str, object] = {}
        if "task" in names:
            given["task"] = task
        if "inputs" in names:
            given["inputs"] = values.lazy(values.input_structure(step), reader.value)
        if "input_path" in names:
            given["input_path"] = graph.map_structure(reader.copy, step.requires())
        written = inspect.unwrap(type(step).run)
        step.__dict__["value"] = written(step, **given)
