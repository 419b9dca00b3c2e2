"""Tasks as rows: what the queue keeps of a task, and the walk from a graph to such rows.

A row holds what Luigi calls a task: module, family, parameters as text. Where a text does not give its value back
(`None` of a plain `luigi.Parameter`), the value stands beside it, if JSON has it; else the whole task is pickled. Every
task is tried out when it is submitted, and compared with its row before it runs. Values of parameters with private
visibility never enter the database.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from superluigi import config, graph
from superluigi.engine.clashes import Clashes
from superluigi.errors import DefinitionError, OptionError, ParameterError, QueueError, SuperLuigiError
from superluigi.execution import mocks
from superluigi.execution.addresses import addresses
from superluigi.formats.compare import same
from superluigi.luigi_compat.configuration import value
from superluigi.queue import runs
from superluigi.queue.models import DEFAULT_POOL, LARGEST, TaskSpec
from superluigi.queue.rebuild import as_held, class_of, cloud_loads, remake, values_beside
from superluigi.runs import tracebacks
from superluigi.runs.completeness import CheckError, Completeness
from superluigi.runs.context import RunContext, entered
from superluigi.scheduler.limits import Limits
from superluigi.scheduler.terms import Terms, text_of


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
    #: Of one task of each class: where its outputs are here.
    samples: list[runs.Sample] = field(default_factory=list)


def collect(
    roots: Sequence[luigi.Task], run: RunContext, options: SpecOptions, asking: luigi.Task | None = None
) -> Collected:
    """Walk from `roots` down to what is complete, as Luigi does, and describe each task once.

    `asking` is the task that asked for `roots` while it ran.

    Raises:
        OutputClashError: two tasks have one place for their outputs, or one is inside what another replaces.
        DefinitionError: the graph has a cycle, or a task cannot be stored; the message has the remedy.
        ParameterError: parameters that do not survive the way through text.
        QueueError: `complete()` of a task raised.
        ExecutionError: a task reads or writes what lives in the memory of this process.
    """
    with entered(run):
        tasks, complete, below = _discover(roots, run)
        for task in tasks:
            if not complete[graph.key(task)]:
                mocks.refuse_out_of_reach(task, "the workers of a queue")
        if not all(complete.values()):
            clashes = Clashes(lambda task: roots if task is asking else ())
            for task in (*tasks, asking) if asking else tasks:
                clashes.add(task)
    describe = _Describer(options, run)
    specs: dict[str, TaskSpec] = {}
    try:
        with entered(run):
            for task, requirements in graph.walk(roots, lambda task: below[graph.key(task)]):
                specs[task.task_id] = describe(task, complete[graph.key(task)], requirements)
    except ValueError as error:
        if not str(error).startswith("cycle: "):
            raise
        raise DefinitionError(f"The requirements go round in a circle; {error}") from error
    return Collected(_inherit_priorities(specs), describe.codes, list(describe.samples.values()))


def _discover(
    roots: Sequence[luigi.Task], run: RunContext
) -> tuple[list[luigi.Task], dict[Hashable, bool], dict[Hashable, list[luigi.Task]]]:
    """All tasks, what is complete, and what each requires; layer by layer, so that a layer can be asked at once."""
    asking = Completeness(run)
    found: list[luigi.Task] = []
    complete: dict[Hashable, bool] = {}
    below: dict[Hashable, list[luigi.Task]] = {}
    layer = graph.unique(roots)
    while layer:
        found += layer
        following: list[luigi.Task] = []
        asked = [task for task in layer if not _is_never_complete(task)]
        answers = dict(zip(map(graph.key, asked), asking.ask(asked), strict=True))
        for task in layer:
            name = graph.key(task)
            answer = answers.get(name, False)
            if isinstance(answer, CheckError):
                said = f"complete() of {task} raised, nothing was submitted:\n{answer.trace}"
                raise QueueError(said) from answer.error
            complete[name] = answer
            below[name] = [] if answer else _requirements(task)
            following += below[name]
        layer = [task for task in graph.unique(following) if graph.key(task) not in below]
    return found, complete, below


def _requirements(task: luigi.Task) -> list[luigi.Task]:
    try:
        found = list(task.deps())
    except (SuperLuigiError, KeyboardInterrupt):
        raise
    except BaseException as error:
        said = f"requires() of {text_of(task)} raised, nothing was submitted:\n{tracebacks.text_of(error)}"
        raise QueueError(said) from error
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

    def __init__(self, options: SpecOptions, run: RunContext) -> None:
        self.options = options
        self.run = run
        self.codes: dict[str, bytes] = {}
        self.samples: dict[type[luigi.Task], runs.Sample] = {}
        self._homes: dict[type[luigi.Task], tuple[str, str | None]] = {}
        self._timeout = value("worker", "timeout", 0, "int")
        # Luigi's own default (999,999,999 failures, 15 minutes apart) is a daemon's; here it must be asked for.
        self._retry_count = value("scheduler", "retry_count", 1, "int")
        self._retry_delay = value("scheduler", "retry_delay", 0.0, "float")
        self._retry_window = value("scheduler", "disable_window", 0.0, "float")
        self._retry_deadline = value("scheduler", "disable_hard_timeout", 0.0, "float")

    def __call__(self, task: luigi.Task, complete: bool, requirements: Sequence[luigi.Task]) -> TaskSpec:
        texts = task.to_str_params()
        externalized = vars(task).get("run", ...) is None
        values = None if externalized or graph.written(task, "must_pickle") else values_beside(task, texts)
        module: str
        code: str | None
        if values is None:  # its texts do not say all: they name tasks that another process does not know, say
            module, code = type(task).__module__, self._store(task)
            self._check_copy(task, texts, code)
        else:
            module, code = self._homes.get(type(task)) or self._home(task)
        beside = {name: {"text": texts[name], "value": value} for name, value in (values or {}).items()}
        params = json.dumps({**texts, **beside})
        if values is not None and not complete and type(task) not in self.samples:
            where = module, task.task_family, code
            self.samples[type(task)] = runs.Sample(where, task.task_id, params, addresses(task, ()))
        if _has_private(type(task)):  # private values may differ by instance
            self._check_private(task)
        forced = self.run.forces(task)
        terms = _terms_of(task, complete)
        policy = terms.retry_policy or {}
        timeout = self._timeout if terms.timeout is None else terms.timeout
        retries: Any = self._retry_count if policy.get("retry_count") is None else policy["retry_count"]
        tags = graph.written(task, "tags")
        return TaskSpec(
            task_id=task.task_id,
            name=task.task_family,
            module=module,
            params=params,
            pool=self._pool(task),
            priority=_real(terms.priority if self.options.priority is None else self.options.priority),
            resources={name: _real(amount) for name, amount in terms.resources.items()},
            timeout=_seconds(timeout),
            max_failures=int(max(1, min(retries, LARGEST))),
            retry_delay=_real((0 if complete else Terms.amount(task, "retry_delay")) or self._retry_delay),
            retry_window=_seconds(policy.get("disable_window"), self._retry_window),
            retry_deadline=_seconds(policy.get("disable_hard_timeout"), self._retry_deadline),
            code=code,
            tags=json.dumps(dict(tags), default=str) if tags and isinstance(tags, Mapping) else None,
            external=graph.is_external(task),
            complete=complete,
            forced=forced,
            tells=can_tell(task, self.run),
            deps=tuple(dict.fromkeys(requirement.task_id for requirement in requirements)),
        )

    def _pool(self, task: luigi.Task) -> str:
        wanted = self.options.pool
        if isinstance(wanted, Mapping):
            wanted = wanted.get(task.task_family)
        own = graph.written(task, "pool")
        return wanted or (own if isinstance(own, str) else DEFAULT_POOL)

    def _home(self, task: luigi.Task) -> tuple[str, str | None]:
        """Module, and digest if stored by value, of the class of `task`."""
        cls = type(task)
        module, code = cls.__module__, None
        if module == "__main__":
            module = _name_of_main() or module
        by_name = cls.__module__ == "__main__" or class_of(task.task_family, module) is cls
        if self.options.by_value or not by_name:  # a worker would find another, of which this is a copy, say
            code = self._store(cls)
        elif module == "__main__":
            raise DefinitionError(
                f"{task.task_family} is defined in __main__, which workers cannot import. Move it to a module "
                f"of its own and import it from there; or run the script as `python -m package.module`; or "
                "store the class itself: submit(…, by_value=True)."
            )
        self._homes[cls] = module, code
        return module, code

    def _check_copy(self, task: luigi.Task, texts: Mapping[str, str], digest: str) -> None:
        """Refuse a pickled task that comes back as another one."""
        address = next((f"{name}={text}" for name, text in texts.items() if _ADDRESS.search(text)), None)
        cause: Exception | None = None
        if address is None:
            try:
                remake(cloud_loads(self.codes[digest]), task.task_family, task.task_id, texts, None)
                return
            except Exception as error:  # noqa: BLE001 unpickling runs code of the values it meets
                cause = error
        raise ParameterError(
            f"The parameters of {task} do not survive the way to another process: "
            f"{f'{address} names an address of memory' if address else cause}. Give it values that text can hold: "
            "numbers, text, dates, or functions and classes of a module by an annotated parameter."
        ) from cause

    def _check_private(self, task: luigi.Task) -> None:
        """Refuse private values that are not what Luigi's config, or the default, gives: they are never stored."""
        hidden = [
            name for name, parameter in type(task).get_params()
            if parameter.visibility == ParameterVisibility.PRIVATE
            and not (
                parameter.has_task_value(task.task_family, name)
                and same(as_held(parameter.task_value(task.task_family, name)), task.param_kwargs[name])
            )
        ]  # fmt: skip
        if hidden:
            raise ParameterError(
                f"The parameters of {task} do not survive the way through text ({', '.join(hidden)}: private, hence "
                "never stored; set it in Luigi's config)."
            )

    def _store(self, thing: type[luigi.Task] | luigi.Task) -> str:
        from superluigi.execution import pickling

        shown = thing.__qualname__ if isinstance(thing, type) else str(thing)
        if not config.get("allow_pickle"):
            raise DefinitionError(
                f"{shown} can only be pickled into the queue, and allow_pickle is false. Define its class in a module, "
                "with parameters that text can hold; or set allow_pickle if you trust all who submit here."
            )
        try:
            # Classes of importable modules are pickled by reference, as is usual.
            pickle = pickling.by_value(thing)
        except Exception as error:  # pickling runs code of the values it meets
            raise DefinitionError(f"{shown} cannot be stored by value: {error}") from error
        digest = hashlib.sha256(pickle).hexdigest()
        self.codes[digest] = pickle
        return digest


def can_tell(task: luigi.Task, run: RunContext) -> bool:
    """Whether `complete()` says the truth once the task has run as part of `run`.

    It cannot for tasks without outputs, nor, when they are forced, for those without records: of these only
    the queue knows that they were made.
    """
    if run.forces(task):
        can_be_forced = graph.written(task, "records_run")
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


_NO_LIMITS = Limits()


def _terms_of(task: luigi.Task, complete: bool) -> Terms:
    """How `task` is to be run; what is complete need not say so, but may be tried again once its output is gone."""
    try:
        return Terms.of(task, _NO_LIMITS)
    except DefinitionError:
        if not complete:
            raise
        return Terms.of_complete(task)


def _seconds(own: Any, configured: float = 0.0) -> float | None:
    """A task's own limit, else that of Luigi's configuration; None for none."""
    seconds = _real(configured if own is None else own)
    return seconds if 0 < seconds < math.inf else None


def _real(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number may be of any size
        return math.inf if number > 0 else -math.inf


def _has_private(cls: type[luigi.Task]) -> bool:
    return any(parameter.visibility == ParameterVisibility.PRIVATE for _, parameter in cls.get_params())


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")


def _name_of_main() -> str | None:
    """The importable name of the running script, when it was started with `python -m`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = getattr(spec, "name", None)
    return name if name and not name.endswith("__main__") else None


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
