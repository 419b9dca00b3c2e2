"""Tasks as rows, and back: what the queue keeps of a task, and the walk from a graph to such rows.

A row holds what Luigi calls a task (module, family, parameters as text); values of parameters with private
visibility never enter the database.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import luigi
from luigi.parameter import ParameterVisibility
from luigi.task_register import Register, TaskClassAmbigiousException, TaskClassNotFoundException

from superluigi import graph
from superluigi.errors import DefinitionError, OptionError, ParameterError, QueueError
from superluigi.queue.states import DEFAULT_POOL, TaskSpec
from superluigi.scheduling.attempt import is_external
from superluigi.scheduling.clashes import Clashes
from superluigi.scheduling.completeness import Completeness, Trouble
from superluigi.scheduling.run import Run, entered


@dataclass(frozen=True)
class SpecOptions:
    """What a submission says about all its tasks; `None` leaves it to the task."""

    pool: str | Mapping[str, str] | None = None
    priority: float | None = None
    by_value: bool = False


@dataclass
class Collected:
    """The rows of a graph, requirements first, and the classes that go with them by value."""

    specs: list[TaskSpec] = field(default_factory=list)
    codes: dict[str, bytes] = field(default_factory=dict)


def collect(roots: Sequence[luigi.Task], run: Run, options: SpecOptions, asking: luigi.Task | None = None) -> Collected:
    """Walk from `roots` down to what is complete, as Luigi does, and describe each task once.

    `asking` is the task that asked for `roots` while it ran.

    Raises:
        OutputClashError: two tasks have one place for their outputs, or one is inside what another replaces.
        DefinitionError: the graph has a cycle, or a task cannot be stored; the message has the remedy.
        ParameterError: parameters that do not survive the way through text.
        QueueError: `complete()` of a task raised.
    """
    with entered(run):
        complete, below = _discover(roots, run)
        if not all(complete.values()):
            clashes = Clashes(lambda task: roots if task is asking else ())
            for task in (*below, asking) if asking else below:
                clashes.add(task)
    describe = _Describer(options, run)
    specs: dict[str, TaskSpec] = {}
    try:
        for task, requirements in graph.walk(roots, below.__getitem__):
            specs[task.task_id] = describe(task, complete[task], requirements)
    except ValueError as error:
        if not str(error).startswith("cycle: "):
            raise
        raise DefinitionError(f"The requirements go round in a circle; {error}") from error
    return Collected(_inherit_priorities(specs), describe.codes)


def _discover(
    roots: Sequence[luigi.Task], run: Run
) -> tuple[dict[luigi.Task, bool], dict[luigi.Task, list[luigi.Task]]]:
    """What is complete, and what each task requires; layer by layer, so that a layer can be asked at once."""
    asking = Completeness(run)
    complete: dict[luigi.Task, bool] = {}
    answers: dict[luigi.Task, bool | Trouble]
    below: dict[luigi.Task, list[luigi.Task]] = {}
    layer = list(dict.fromkeys(roots))
    while layer:
        following: dict[luigi.Task, None] = {}
        asked = [task for task in layer if not _is_never_complete(task)]
        answers = dict.fromkeys(layer, False)
        answers.update(zip(asked, asking.ask(asked), strict=True))
        for task, answer in answers.items():
            if isinstance(answer, Trouble):
                said = f"complete() of {task} raised, nothing was submitted:\n{answer.trace}"
                raise QueueError(said) from answer.error
            complete[task] = answer
            below[task] = [] if answer else _requirements(task)
            following.update(dict.fromkeys(below[task]))
        layer = [task for task in following if task not in below]
    return complete, below


def _requirements(task: luigi.Task) -> list[luigi.Task]:
    found = list(task.deps())
    for requirement in found:
        if not isinstance(requirement, luigi.Task):
            raise DefinitionError(
                f"requires() of {task} holds {requirement!r}, a {type(requirement).__name__}. "
                "Return tasks, in any nesting of lists and dicts."
            )
    return found


def _inherit_priorities(specs: dict[str, TaskSpec]) -> list[TaskSpec]:
    """What an urgent task requires is as urgent: requirements come first in `specs`, so go backwards."""
    if len({spec.priority for spec in specs.values()}) < 2:
        return list(specs.values())
    ordered = dict(specs)
    for task_id in reversed(specs):
        spec = ordered[task_id]
        for dep in spec.deps:
            if ordered[dep].priority < spec.priority:
                ordered[dep] = replace(ordered[dep], priority=spec.priority)
    return list(ordered.values())


class _Describer:
    """Makes the row of a task; remembers what is the same for all tasks of a class."""

    def __init__(self, options: SpecOptions, run: Run) -> None:
        self.options = options
        self.run = run
        self.codes: dict[str, bytes] = {}
        self._homes: dict[type[luigi.Task], tuple[str, str | None]] = {}
        config = luigi.configuration.get_config()
        self._timeout = config.getint("worker", "timeout", 0)
        # Luigi's own default (999,999,999 failures, 15 minutes apart) is a daemon's; here it must be asked for.
        self._retry_count = config.getint("scheduler", "retry_count", 1)
        self._retry_delay = config.getfloat("scheduler", "retry_delay", 0.0)
        self._retry_window = config.getfloat("scheduler", "disable_window", 0.0)
        self._retry_deadline = config.getfloat("scheduler", "disable_hard_timeout", 0.0)

    def __call__(self, task: luigi.Task, complete: bool, requirements: Sequence[luigi.Task]) -> TaskSpec:
        params = json.dumps(task.to_str_params())
        module: str
        code: str | None
        if getattr(task, "travels_whole", False):  # its texts name tasks that another process does not know
            module, code = type(task).__module__, self._store(task)
        else:
            module, code = self._homes.get(type(task)) or self._home(task, params)
        forced = self.run.plan.forces(task)
        timeout = task.worker_timeout if task.worker_timeout is not None else self._timeout
        retries = task.retry_count if task.retry_count is not None else self._retry_count
        tags = getattr(task, "tags", None)
        return TaskSpec(
            task_id=task.task_id,
            name=task.task_family,
            module=module,
            params=params,
            pool=self._pool(task),
            priority=float(task.priority if self.options.priority is None else self.options.priority),
            resources={} if complete else {str(k): float(v) for k, v in task.process_resources().items()},
            timeout=float(timeout) if timeout else None,
            max_failures=max(1, int(retries)),
            retry_delay=float(getattr(task, "retry_delay", None) or self._retry_delay),
            retry_window=_seconds(task.disable_window, self._retry_window),
            retry_deadline=_seconds(task.disable_hard_timeout, self._retry_deadline),
            code=code,
            tags=json.dumps(dict(tags), default=str) if tags and isinstance(tags, Mapping) else None,
            external=is_external(task),
            complete=complete,
            forced=forced,
            tells=can_tell(task, forced),
            deps=tuple(dict.fromkeys(requirement.task_id for requirement in requirements)),
        )

    def _pool(self, task: luigi.Task) -> str:
        wanted = self.options.pool
        if isinstance(wanted, Mapping):
            wanted = wanted.get(task.task_family)
        own = getattr(task, "pool", None)
        return wanted or (own if isinstance(own, str) else DEFAULT_POOL)

    def _home(self, task: luigi.Task, params: str) -> tuple[str, str | None]:
        """Module, and digest if stored by value, of the class of `task`; checked with this first instance."""
        cls = type(task)
        module, code = cls.__module__, None
        if module == "__main__":
            module = _name_of_main() or module
        if self.options.by_value:
            code = self._store(cls)
        elif module == "__main__":
            raise DefinitionError(
                f"{task.task_family} is defined in __main__, which workers cannot import. Move it to a module "
                f"of its own and import it from there; or run the script as `python -m package.module`; or "
                "store the class itself: submit(…, by_value=True)."
            )
        again = _from_text(cls, json.loads(params), task)
        hidden = [
            name for name, p in cls.get_params()
            if p.visibility == ParameterVisibility.PRIVATE and getattr(again, name) != getattr(task, name)
        ]  # fmt: skip
        if again.task_id != task.task_id or hidden:
            named = f" ({', '.join(hidden)}: private, hence never stored; set it in Luigi's config)" if hidden else ""
            raise ParameterError(f"The parameters of {task} do not survive the way through text{named}.")
        if not hidden and not _has_private(cls):  # values of private parameters may differ by instance
            self._homes[cls] = module, code
        return module, code

    def _store(self, thing: type[luigi.Task] | luigi.Task) -> str:
        import cloudpickle  # type: ignore[import-untyped]

        try:
            # Classes of importable modules are pickled by reference, as everybody expects.
            pickle: bytes = cloudpickle.dumps(thing)
        except Exception as error:  # pickling runs code of the values it meets
            shown = thing.__qualname__ if isinstance(thing, type) else str(thing)
            raise DefinitionError(f"{shown} cannot be stored by value: {error}") from error
        digest = hashlib.sha256(pickle).hexdigest()
        self.codes[digest] = pickle
        return digest


def can_tell(task: luigi.Task, forced: bool) -> bool:
    """Whether `complete()` says the truth once the task has run.

    It cannot for tasks without outputs, nor, when they are forced, for those without records: of these only
    the queue knows that they were made.
    """
    if forced:
        can_be_forced = getattr(task, "can_be_forced", None)
        return bool(can_be_forced is not None and can_be_forced())
    return not _is_never_complete(task)


def _is_never_complete(task: luigi.Task) -> bool:
    """Whether a task has no outputs and no `complete()` of its own: it runs each time it is asked for."""
    cls = type(task)
    return cls.output is luigi.Task.output and _name_of(cls.complete) in _BY_OUTPUTS


#: Definitions of `complete` that only look at the outputs; by name, to spare workers the import of our tasks.
_BY_OUTPUTS = ("luigi.task.Task.complete", "superluigi.tasks.base.Task.complete")


def _name_of(function: Callable[..., object]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _seconds(own: float | None, configured: float) -> float | None:
    """A task's own limit, else that of Luigi's configuration; None for none."""
    return float(configured if own is None else own) or None


def _has_private(cls: type[luigi.Task]) -> bool:
    return any(parameter.visibility == ParameterVisibility.PRIVATE for _, parameter in cls.get_params())


def _from_text(cls: type[luigi.Task], params: Mapping[str, str], task: luigi.Task) -> luigi.Task:
    try:
        again: luigi.Task = cls.from_str_params(params)
    except Exception as error:  # `parse` of any parameter class may raise anything
        raise ParameterError(f"The parameters of {task} cannot be read back from text: {error}") from error
    return again


def _name_of_main() -> str | None:
    """The importable name of the running script, when it was started with `python -m`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = getattr(spec, "name", None)
    return name if name and not name.endswith("__main__") else None


def rebuild(
    module: str,
    name: str,
    params: Mapping[str, str],
    code: bytes | None = None,
    tags: Mapping[str, Any] | None = None,
) -> luigi.Task:
    """The task that a row describes, with its tags; imports its module.

    Raises:
        ParameterError: the module does not define it, or not with these parameters.
    """
    home = found(module, name, code)
    return home if isinstance(home, luigi.Task) else remake(home, name, params, tags)


def found(module: str, name: str, code: bytes | None) -> type[luigi.Task] | luigi.Task:
    """The class that a row names, or the very task, where that was stored by value.

    Raises:
        ParameterError: the module does not define it.
    """
    if code is not None:
        return _unpickled(code)
    home = importlib.import_module(module)
    cls = _class_of(name, module)
    if cls is None:
        raise ParameterError(
            f"Module {module!r} ({getattr(home, '__file__', 'built in')}) defines no task {name!r} when it is "
            "imported. Tasks must be defined at the top of a module; or submit(…, by_value=True)."
        )
    return cls


def remake(cls: type[luigi.Task], name: str, params: Mapping[str, str], tags: Mapping[str, Any] | None) -> luigi.Task:
    """The task of that class with the parameters and tags of its row.

    Raises:
        ParameterError: the class does not take these parameters.
    """
    try:
        task: luigi.Task = cls.from_str_params(params)
    except Exception as error:  # `parse` of any parameter class may raise anything
        raise ParameterError(f"{name} cannot be made from the parameters {dict(params)}: {error}") from error
    if tags and getattr(task, "tags", None) != tags:
        cast(Any, task).tags = dict(tags)
    return task


@functools.lru_cache(maxsize=64)
def _unpickled(code: bytes) -> type[luigi.Task] | luigi.Task:
    """The class, or the whole task, in `code`; the same one each time, as an import would give."""
    import cloudpickle

    found: type[luigi.Task] | luigi.Task = cloudpickle.loads(code)
    return found


def _class_of(name: str, module: str) -> type[luigi.Task] | None:
    try:
        cls: type[luigi.Task] = Register.get_task_cls(name)
    except TaskClassNotFoundException:
        return None
    except TaskClassAmbigiousException:  # two modules use the name: the one of this module is meant
        inside = getattr(sys.modules[module], name.rpartition(".")[2], None)
        return inside if isinstance(inside, type) and issubclass(inside, luigi.Task) else None
    return cls


def check_pools(specs: Iterable[TaskSpec], known: Iterable[str]) -> None:
    """Refuse tasks of pools that do not exist.

    Raises:
        OptionError: names the tasks and the pools there are.
    """
    pools = set(known)
    for spec in specs:
        if spec.pool not in pools:
            raise OptionError(
                f"{spec.name} belongs to pool {spec.pool!r}; this queue has {', '.join(sorted(pools))}. "
                f"Add it: Queue(name, pools={{{spec.pool!r}: Pool(4)}})."
            )
