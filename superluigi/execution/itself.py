"""What a task is, kept while its own code runs: who asks for it afterwards finds what the run has planned."""

from __future__ import annotations

from luigi.task import Task

from superluigi.errors import DefinitionError, message_of

#: What everybody knows a task by; its parameters may get other values (Luigi lets `run` do that), but not go.
_FIXED = ("task_id", "param_kwargs")


class Itself:
    """Class, id and parameters of `task` as they are when an attempt at it begins."""

    def __init__(self, task: Task) -> None:
        self.task_id = task.task_id
        self._task, self._kind, self._state = task, type(task), dict(vars(task))
        self._names = [name for name in (*_FIXED, *task.param_kwargs) if name in self._state]

    def changed(self) -> list[str]:
        """What of it the task has replaced or removed since."""
        state = vars(self._task)
        kept = self._state
        lost = [name for name in self._names if name not in state or (name in _FIXED and state[name] is not kept[name])]
        return ["__class__", *lost] if type(self._task) is not self._kind else lost

    def explained(self, error: BaseException | None) -> BaseException | None:
        """What a task that is not what it was has failed with, whatever `error` it has met by that; else `error`."""
        lost = self.changed()
        if not lost:
            return error
        self.put_back()
        also = "" if error is None else f" (It then failed with {type(error).__name__}: {message_of(error)})"
        found = DefinitionError(
            f"{self._task} has replaced or removed its own {', '.join(lost)} while it ran, which others know it by. "
            f"Leave these as they are.{also}"
        )
        found.__cause__ = error
        return found

    def refuse_change(self) -> None:
        """Fail a task that is not what it was.

        Raises:
            DefinitionError: says which attributes are others.
        """
        if (error := self.explained(None)) is not None:
            raise error

    def put_back(self) -> None:
        """Make the task again what it was."""
        if lost := self.changed():
            if lost[0] == "__class__":
                object.__setattr__(self._task, "__class__", self._kind)
            state = vars(self._task)
            state.update({name: value for name, value in self._state.items() if name in _FIXED or name not in state})
