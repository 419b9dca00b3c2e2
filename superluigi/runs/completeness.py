"""Is a task complete? Asked once per task and run, many at a time when asking is slow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from luigi.target import Target
from luigi.task import Task, WrapperTask

from superluigi import graph
from superluigi.errors import USERS_CODE, DefinitionError, tellable
from superluigi.runs import tracebacks
from superluigi.runs.context import RunContext

#: Asks about many tasks at once, for instance by one listing of a prefix; leaves out what it cannot tell.
CompleteMany = Callable[[Sequence[Task]], Mapping[str, bool]]

#: Threads that ask at the same time: asking is waiting for a disk or a network, not computing.
THREADS = 32
#: When even the quickest of the last answers took longer (seconds), asking is worth a thread hand-over.
SLOW_SECONDS = 0.001
#: How many answers are looked at for that; a busy machine makes single ones slow.
SAMPLE = 5


class CheckError:
    """What a `complete()` raised that was asked just now, and its formatted traceback."""

    def __init__(self, error: BaseException) -> None:
        self.trace = tracebacks.text_of(error)
        self.error = tellable(error, self.trace)


def is_complete(task: Task, run: RunContext) -> bool:
    """Whether `task` need not run now: complete as always, or, if `run` forces it, made in this run.

    For forced tasks without records this is False, unless a run that is resumed has made them; what runs them keeps
    a list of what it has done.
    """
    return bool(_answer_of(task, run))


def _answer_of(task: Task, run: RunContext) -> object:
    if not run.forces(task):
        return task.complete()
    made = run_made(task, run)
    return made if made is not None else task.task_id in run.made_before and task.complete()


def run_made(task: object, run: RunContext) -> bool | None:
    """Whether `run` has made a task that it forces, by its record; None for a kind of task that cannot tell."""
    can = graph.written(task, "records_run")
    made_in = graph.written(task, "made_by_run")
    return bool(made_in(run)) if can is not None and can() and made_in is not None else None


class Completeness:
    """What a run knows about which tasks are complete."""

    def __init__(self, run: RunContext, many: CompleteMany | None = None) -> None:
        self._run = run
        self._many = many
        #: Task id → last answer. True stays true for the whole run.
        self.known: dict[str, bool] = {}
        self._requires: dict[str, list[Task]] = {}
        self._took: deque[float] = deque(maxlen=SAMPLE)
        #: What was asked on behalf of a wrapper and raised; its own turn comes with the wrapper's requirements.
        self._troubles: dict[str, CheckError] = {}

    def done(self, task_id: str) -> None:
        """The task has been made by this run, or was found complete by a trusted process."""
        self.known[task_id] = True

    def forget(self, task_id: str) -> None:
        self.known.pop(task_id, None)

    def requirements(self, task: Task) -> list[Task]:
        """`task.deps()`, asked once unless it raises.

        Raises:
            DefinitionError: one of them is no task.
        """
        kept = self._requires.get(task.task_id)
        if kept is None:
            kept = list(task.deps())
            for requirement in kept:
                refuse_other_than_tasks(requirement, "requires()", task)
            if is_plain_wrapper(task):
                self._requires[task.task_id] = kept
        return kept

    def gathered(self, task_id: str) -> list[Task]:
        """What a wrapper requires, if it was asked before."""
        return self._requires.get(task_id, [])

    def ask(self, tasks: Sequence[Task]) -> list[bool | CheckError]:
        """One answer for each task, in order. A `complete()` that raises gives its `CheckError`."""
        troubles = {i: self._troubles.pop(i) for i in [t.task_id for t in tasks] if i in self._troubles}
        wrappers = self._wrappers_among(tasks, troubles)
        direct = {t.task_id: t for t in tasks if not is_plain_wrapper(t)}
        for wrapper in wrappers:
            direct.update((t.task_id, t) for t in self._requires[wrapper.task_id] if not is_plain_wrapper(t))
        self._ask_directly([t for i, t in direct.items() if i not in self.known and i not in troubles], troubles)
        for wrapper in reversed(wrappers):  # requirements before what needs them
            self._conclude(wrapper)
        asked = {t.task_id for t in tasks}
        self._troubles.update((i, trouble) for i, trouble in troubles.items() if i not in asked)
        return [troubles.get(t.task_id) or self.known[t.task_id] for t in tasks]

    def _wrappers_among(self, tasks: Sequence[Task], troubles: dict[str, CheckError]) -> list[Task]:
        """Wrapper tasks below `tasks`, each after everything that needs it.

        `WrapperTask.complete()` asks all it requires, which for nested wrappers means the same leaf
        exponentially often; here each is asked once and wrappers are concluded from that.
        """
        order: list[Task] = []
        state: dict[str, bool] = {}
        stack: list[tuple[Task, bool]] = [(t, False) for t in tasks if is_plain_wrapper(t)]
        while stack:
            task, expanded = stack.pop()
            if expanded:
                order.append(task)
                continue
            if task.task_id in state or self.known.get(task.task_id) or task.task_id in troubles:
                continue
            state[task.task_id] = True
            try:
                requirements = self.requirements(task)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - user code; reported with the task
                troubles[task.task_id] = CheckError(error)
                continue
            stack.append((task, True))
            stack.extend((t, False) for t in requirements if is_plain_wrapper(t))
        order.reverse()
        return order

    def _conclude(self, wrapper: Task) -> None:
        """What raised is not complete: the wrapper waits for it, and the others that it requires are made."""
        self.known[wrapper.task_id] = all(self.known.get(t.task_id) for t in self._requires[wrapper.task_id])

    def _ask_directly(self, tasks: list[Task], troubles: dict[str, CheckError]) -> None:
        if self._many is not None and len(tasks) > 1:
            self.known.update(self._many(tasks))
            tasks = [t for t in tasks if t.task_id not in self.known]
        asked = 0
        for task in tasks:
            if len(self._took) == SAMPLE and min(self._took) > SLOW_SECONDS:
                break
            began = time.perf_counter()
            self._keep(task, self._answer(task), troubles)
            self._took.append(time.perf_counter() - began)
            asked += 1
        self._ask_in_threads(tasks[asked:], troubles)

    def _ask_in_threads(self, tasks: list[Task], troubles: dict[str, CheckError]) -> None:
        if len(tasks) < 2:
            for task in tasks:
                self._keep(task, self._answer(task), troubles)
            return
        with ThreadPoolExecutor(min(THREADS, len(tasks)), "superluigi-complete") as pool:
            futures = [pool.submit(copy_context().run, self._answer, task) for task in tasks]
            for task, future in zip(tasks, futures, strict=True):
                self._keep(task, future.result(), troubles)

    def _answer(self, task: Task) -> bool | CheckError:
        try:
            answer = _answer_of(task, self._run)
            if answer in (True, False):  # as Luigi has it: 0 and 1, and numpy's
                return bool(answer)
            raise TypeError(f"complete() of {task} must return True or False, but returned {answer!r}.")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - user code; reported with the task
            return CheckError(error)

    def _keep(self, task: Task, answer: bool | CheckError, troubles: dict[str, CheckError]) -> None:
        if isinstance(answer, CheckError):
            troubles[task.task_id] = answer
        else:
            self.known[task.task_id] = answer


def is_plain_wrapper(task: Task) -> bool:
    """Whether a task is complete exactly when all that it requires is."""
    if not isinstance(task, WrapperTask):
        return False
    only_wraps = getattr(type(task), "_superluigi_only_wraps", None)
    return type(task).complete is WrapperTask.complete or (only_wraps is not None and bool(only_wraps()))


def refuse_other_than_tasks(required: object, method: str, asking: object) -> None:
    """Explain what `method` of the task `asking` may require or yield.

    Raises:
        DefinitionError: `required` is no task, or one that has not been made properly.
    """
    if not isinstance(required, Task):
        kind = required.__name__ if isinstance(required, type) else type(required).__name__
        hint = (
            "Require the task that makes it, or wrap it in an ExternalTask"
            if isinstance(required, Target)
            else f"Call it: {kind}(…)"
            if isinstance(required, type)
            else "Return a task, or lists and dicts of tasks"
        )
        raise DefinitionError(
            f"{method} of {asking} must give Task objects, but {_shown(required)} is a "
            f"{'class' if isinstance(required, type) else kind}. {hint}."
        )
    if not required.initialized():
        raise DefinitionError(
            f"{method} of {asking} gives a {type(required).__name__} whose __init__ did not run. Call "
            "super().__init__(*args, **kwargs) in it."
        )


def _shown(value: object) -> str:
    with USERS_CODE:
        return repr(value)[:200]
    return "what it gives"
