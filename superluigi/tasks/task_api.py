"""What tasks can do beside running: give their value, their parts, show themselves, be cleared."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from superluigi import graph
from superluigi.errors import OptionError, ParameterError
from superluigi.parameters import parameter_errors
from superluigi.parameters.annotations import required_by
from superluigi.runs import context as runs


class _RunOption:
    """What was a parameter of every task in the first `super-luigi` package; a class may have its own of the name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, task: Any, owner: type) -> bool:
        return task is not None and self.name == "force" and runs.current().forces(task)

    def __set__(self, task: Any, value: object) -> NoReturn:
        raise OptionError(f"{task.get_task_family()}: {parameter_errors.of_the_run(self.name)}")


class Conveniences:
    """Mixed into `Task`; everything heavier is imported when it is used."""

    #: Whether the run that is under way makes this task again although it is complete; set by `run_task(force…=)`.
    force = _RunOption()
    raise_exception = _RunOption()

    #: What `run` returns, as annotated; set when the class is made.
    returns: ClassVar[Any] = ...
    #: The annotation of `run`'s argument `inputs`; set when the class is made.
    inputs_annotation: ClassVar[Any] = ...
    #: Makes `task[key]`; `superluigi.tasks.kinds.task_views` hands it in, since a part is a task itself.
    make_part: ClassVar[Callable[[Any, Any], Any]]

    def requires(self) -> Any:
        """What annotated parameters and arguments bring: a dict by name; an empty list without any."""
        return required_by(self) or []  # type: ignore[arg-type]  # always mixed into a Luigi task

    def _requires(self) -> list[object]:
        """Luigi's hook: what is required beside `requires()`; here, for the init steps."""
        required: list[object] = super()._requires()  # type: ignore[misc]
        steps = self.required_by_steps()
        return [*required, *steps] if steps else required

    def required_by_steps(self) -> list[Any]:
        """What the init steps require."""
        steps: tuple[Any, ...] = self.init  # type: ignore[attr-defined]
        return [task for step in steps for task in step.deps()]

    def validate(self) -> None:
        """Override to check parameters together; raise `ValueError` with what is wrong. Runs before anything else."""

    def check_parameters(self) -> None:
        """Call `validate`; its complaint becomes an error that names the task."""
        try:
            self.validate()
        except ParameterError:
            raise
        except (ValueError, TypeError, AssertionError) as error:
            said = str(error) or f"its validate() raised {type(error).__name__} without a message"
            raise ParameterError(f"{self!r}: {said}") from error

    def result(self, as_type: Any = None) -> Any:
        """The value of this complete task, loaded in the format that wrote it; tables as `as_type` if given.

        Raises:
            TargetMissingError: the task is not complete.
        """
        from superluigi.tasks import values

        return values.result(self, as_type)  # type: ignore[arg-type]

    def __getitem__(self, key: Any) -> Any:
        """A task that stands for one output of several, one file of a folder, or one item of the value."""
        return type(self).make_part(self, key)

    # `task[...]` must not make tasks iterable: Luigi asks for that to find structures
    __iter__: ClassVar[None] = None

    def clear(self) -> list[Any]:
        """Remove the outputs of this task with their records; returns the targets that were there.

        Raises:
            TargetError: one cannot be removed; the others are.
        """
        there = [target for target in graph.flatten(self.output()) if target.exists()]  # type: ignore[attr-defined]
        from superluigi.tasks import deletion

        deletion.remove_each(there)
        return there

    @classmethod
    def clear_all(cls) -> list[Any]:
        """Remove all outputs of this class in the store, and those of its tasks made in this process.

        Returns the targets that were there. Outputs elsewhere that no task of this process names are not found.

        Raises:
            TargetError: one cannot be removed; the others are.
        """
        from superluigi.tasks import deletion

        return deletion.clear_class(cls)

    def plot_dependency_graph(self, path: Any = None, **options: Any) -> Any:
        """A picture of this task and all it requires, which shows itself in a notebook; saved if `path` is given.

        See `superluigi.visuals.plot_dependency_graph`.
        """
        # by name: pictures are a package above this one
        return importlib.import_module("superluigi.visuals").plot_dependency_graph(self, path, **options)

    def _repr_html_(self) -> str:
        """For notebooks: parameters, state, output, link to the record."""
        from superluigi.tasks import html_repr

        return html_repr.html_of(self)  # type: ignore[arg-type]
