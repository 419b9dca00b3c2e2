"""What every task has: an identity that covers its requirements, and completeness that knows of forcing."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import luigi
from luigi.parameter import ParameterVisibility
from luigi.task_register import Register
from typing_extensions import dataclass_transform

from superluigi import graph
from superluigi.checks import definition
from superluigi.errors import DefinitionError, SuperLuigiError
from superluigi.execution.yielded import CHECKED_DATA
from superluigi.lazy import lazy
from superluigi.luigi_compat.parameters import default_of
from superluigi.luigi_compat.tasks import instances_of, requires_hook
from superluigi.parameters import annotations as declarations
from superluigi.parameters import identity, luigi_kinds, parameter_errors
from superluigi.parameters.checked import Checked
from superluigi.parameters.luigi_task import AnyTask, LuigiExternalTask, LuigiTask, keyword_only
from superluigi.runs import context as runs
from superluigi.runs import force, tracebacks
from superluigi.runs.completeness import refuse_other_than_tasks, run_made
from superluigi.storage.base import Holder, Location
from superluigi.tasks import extra_identity, outputs, ranges, reserved_names, run_wrapper, task_pickle
from superluigi.tasks.checking import admission
from superluigi.tasks.runtime import attempt_context, exclusive, tags
from superluigi.tasks.runtime.exclusive import Mode, Turn
from superluigi.tasks.runtime.mixin import RuntimeMixin
from superluigi.tasks.task_api import Conveniences


class TaskMeta(Register):
    """Checks a task class when it is written, and remembers its parameters."""

    _parameter_version: ClassVar[int] = 0
    if TYPE_CHECKING:
        get_params: Callable[[], list[tuple[str, luigi.Parameter]]]
        get_task_family: Callable[[], str]
        get_param_values: Callable[..., list[tuple[str, object]]]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> TaskMeta:
        try:
            namespace = {**namespace, **declarations.parameters_from_annotations(name, namespace, bases)}
        except SuperLuigiError as error:
            error.__cause__ = error.__cause__ and tracebacks.users_cause(error.__cause__)
            raise
        cls: TaskMeta = super().__new__(mcs, name, bases, namespace, **kwargs)
        reserved_names.check_class(cls, namespace)
        reserved_names.warn_of_misspelt(cls, namespace, stacklevel=2)
        user_run = namespace.get("run")
        if callable(user_run) and "returns" not in namespace:
            type.__setattr__(cls, "returns", declarations.annotation_of(user_run, "return"))
            type.__setattr__(cls, "inputs_annotation", declarations.annotation_of(user_run, "inputs"))
        run_wrapper.refuse_async(cls)
        cls._superluigi_note_checks()
        run_wrapper.wrap(cls, getattr(cls, "run_names", frozenset()))
        return cls

    if not TYPE_CHECKING:  # type checkers read the constructor from the parameters

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            extras = extra_identity.pop(cls, kwargs)
            args, kwargs, marks = tags.pop_tags(cls, args, kwargs)
            try:
                task = cls._superluigi_made(args, kwargs)
            except Exception as error:  # the repr of a value, which Luigi asks for, may raise anything
                if (explained := parameter_errors.explain(cls, error, args, kwargs)) is None:
                    raise
                raise explained from tracebacks.users_cause(error)
            if cls.__init__ is not Task.__init__ or not task.initialized():
                parameter_errors.refuse_without_init(cls, task, args, kwargs)
            return tags.tagged(extra_identity.variant(task, extras), marks) if extras or marks else task

    def _superluigi_note_checks(cls) -> None:
        """Look at its checks; where there are some, external data is asked for its own before a task reads it."""
        definition.refuse_wrong(cls)
        if definition.has_checks(cls):
            CHECKED_DATA.add(cls)
        for derived in cast("Any", cls).__subclasses__():
            derived._superluigi_note_checks()

    def _superluigi_made(cls, args: Any, kwargs: Any) -> Any:
        """The instance of these arguments, made once: Luigi's cache, in which values that read differently differ."""
        instances = instances_of(cls)
        if instances is None:  # switched off
            return super(Register, cls).__call__(*args, **kwargs)
        params = cls.get_params()
        values = cls.get_param_values(params, args, kwargs)
        key = cls, identity.key(params, values)
        try:
            known = instances.get(key)
        except TypeError:  # a value that has no hash: made anew, as in Luigi
            return super(Register, cls).__call__(*args, **kwargs)
        if known is None:
            known = instances[key] = super(Register, cls).__call__(*args, **kwargs)
        elif tried := _remembered(cls, "_superluigi_examined", _Examined).tried:
            given = dict(values)
            for name, parameter in tried:
                parameter.must_be(given[name], known.param_kwargs[name])
        return known

    def __setattr__(cls, name: str, value: object) -> None:
        # parameters may be added to a class later (luigi.util.inherits), also to a base class
        TaskMeta._parameter_version += 1
        if isinstance(value, luigi.Parameter):
            reserved_names.check(cls.__name__, name, value)
        if name == "run" and callable(value) and (offered := getattr(cls, "run_names", None)):
            value = run_wrapper.wrapped(cls.__name__, value, offered)
        super().__setattr__(name, value)
        cls._superluigi_note_checks()

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        cls._superluigi_note_checks()


def _luigis_params(cls: type) -> list[tuple[str, luigi.Parameter]]:
    inherited: Any = vars(LuigiTask)["get_params"]
    return list(inherited.__func__(cls))


class _Examined:
    """The parameters of a class whose values are looked at when a task is made."""

    def __init__(self, cls: Any) -> None:
        params = cls.get_params()
        #: Luigi's own that mean one kind of value, whose values Luigi does not look at.
        self.kinds = [(name, one) for name, one in params if luigi_kinds.concerned(one)]
        #: Whose values may be such that their text does not give them back.
        self.tried = [
            (name, one) for name, one in params if isinstance(one, Checked) and one.by_text and not one.adapter.sure
        ]


@dataclass_transform(kw_only_default=False, eq_default=False, field_specifiers=(luigi.Parameter, keyword_only))
class Task(Conveniences, RuntimeMixin, LuigiTask, metaclass=TaskMeta):
    """A Luigi task whose identity covers its requirements.

    `run` gets nothing but `self` here; see `TaskWithMetadata` and `AtomicTaskWithMetadata`.
    """

    #: What `run` may ask for by name.
    run_names: ClassVar[frozenset[str]] = frozenset()
    #: "copy": `input_path` is yours to change (P7); "shared": the stored files themselves, read-only by agreement.
    read_mode: ClassVar[str] = "copy"
    #: What the output must pass before it is published: schemas, models, functions; see `superluigi.check`.
    checks: ClassVar[Sequence[Any]] = ()
    #: Whether a failed check is a failure that may be tried again, as others are.
    retry_on_failed_check: ClassVar[bool] = True
    #: Where this task runs, when not where the run says: a name or a `concurrent.futures.Executor`.
    executor: ClassVar[Any] = None

    #: Any value; another one makes another task of the same parameters. A class may set it, or a call:
    #: `MyTask(5, hash_seed="b")`. Empty, it is no part of the identity, nor a parameter that Luigi would show.
    if TYPE_CHECKING:
        hash_seed: Any = keyword_only(default="", kw_only=True)
        init: Any = keyword_only(default=(), kw_only=True)

        def run(self, *args: Any, **kwargs: Any) -> Any:
            """A subclass may take any subset of the names."""

        def output(self) -> Any:
            """Targets in any shape."""
    else:
        hash_seed = ""
        #: Steps that run in this task's process just before its `run`: see `superluigi.tasks.InitStep`.
        init = ()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            positional = [name for name, parameter in self.get_params() if parameter.positional] if args else ()
            given = {**dict(zip(positional, args, strict=False)), **kwargs} if args else kwargs
            examined = _remembered(type(self), "_superluigi_examined", _Examined)
            for name, parameter in examined.kinds:
                luigi_kinds.must_fit(parameter, name, self.param_kwargs[name], given.get(name))
            for name, parameter in examined.tried:
                parameter.must_come_back(self.param_kwargs[name])
            self.check_parameters()

    @classmethod
    def get_params(cls) -> list[tuple[str, luigi.Parameter]]:
        """Luigi's own answer, which walks `dir(cls)`, remembered until a task class changes."""
        known: list[tuple[str, luigi.Parameter]] = _remembered(cls, "_superluigi_params", _luigis_params)
        return list(known)

    @classmethod
    def bulk_complete(cls, parameter_tuples: Any) -> Any:
        """For Luigi's range tools, which would else look for files by names: each task is asked."""
        kind = getattr(cls, "func", cls)  # they hand over a partial
        return ranges.complete_ones(cls, parameter_tuples, says_itself=kind.complete is not Task.complete)

    @lazy
    def task_hash(self) -> str:
        """32 hex digits over family, significant public parameters and, recursively, all requirements.

        The same in every process and on every machine.
        """
        return hash_of(self)

    def to_str_params(self, only_significant: bool = False, only_public: bool = False) -> dict[str, str]:
        """Luigi's, less the parameters that do not count while they have their default."""
        known = _remembered(type(self), "_superluigi_texts", _Texts)
        if known.luigis:
            values = self.param_kwargs
            texts = {name: said(values[name]) for name, said in known.shown[bool(only_significant), bool(only_public)]}
        else:
            texts = super().to_str_params(only_significant, only_public)
        texts.update(self.texts_beside_parameters())
        if only_significant:
            for name, parameter in known.ignored:
                if texts.get(name) == parameter.serialize(parameter.normalize(default_of(parameter))):
                    del texts[name]
        return texts

    def texts_beside_parameters(self) -> dict[str, str]:
        """What is part of the identity but no Luigi parameter: a seed, init steps."""
        return extra_identity.texts_of(self)

    @classmethod
    def from_str_params(cls, params_str: Mapping[str, Any]) -> Any:
        """The task that `to_str_params` came from."""
        return extra_identity.from_texts(super().from_str_params(params_str), params_str)

    def clone(self, cls: Any = None, **kwargs: Any) -> Any:
        """Luigi's; a task's own seed and init steps go with it to a clone of the same class."""
        own = extra_identity.extras_of(self) if cls is None else {}
        extras = {**own, **extra_identity.pop(cls or type(self), kwargs)}
        task = super().clone(cls, **kwargs)
        return extra_identity.variant(task, extras) if isinstance(task, Task) else task

    def __repr__(self) -> str:
        texts = self.to_str_params(only_significant=True)
        return f"{self.get_task_family()}({', '.join([f'{name}={text}' for name, text in texts.items()])})"

    def input(self) -> Any:
        """The outputs of `requires()`, in its shape; None where that is None."""
        return graph.map_structure(lambda task: task.output(), _required(self))

    def complete(self) -> bool:
        """Whether all outputs are there; a forced task also needs them to come from this run.

        In a run that refreshes, what is stale is not complete either.
        """
        here = runs.current()
        if here.forces(self) and (made := run_made(self, here)) is not None:
            return made
        return self.outputs_exist() and (here.refresh is None or not here.refresh.is_suspect(self))

    def outputs_exist(self) -> bool:
        """Luigi's `complete`: every output exists."""
        try:
            if self.existence_is_plain() and (targets := graph.flatten(self.output())):
                return outputs.are_there(self, targets)
            return bool(super().complete())
        except (AttributeError, TypeError) as error:
            outputs.check_types(self, error)
            raise

    @classmethod
    def _superluigi_only_wraps(cls) -> bool:
        """Whether a class is complete exactly when all that it requires is, and running it does nothing."""
        next_complete: object = super().complete
        plain = cls.complete is Task.complete and hasattr(cls.outputs_exist, "is_luigis_own")
        return plain and next_complete is luigi.WrapperTask.complete and cls.run is LuigiTask.run

    outputs_exist.is_luigis_own = True  # type: ignore[attr-defined]  # a mark that an override does not have

    def existence_is_plain(self) -> bool:
        """Whether no mix-in has a say in `outputs_exist`."""
        return getattr(super().complete, "__func__", None) is LuigiTask.complete

    def records_run(self) -> bool:
        """Whether this kind of task can tell in which run its outputs were made."""
        return False

    def made_by_run(self, this: runs.RunContext) -> bool:
        """Whether `this` run (or one that began later) made the outputs; only records can tell."""
        del this
        return False

    def _superluigi_turn(self, run: runs.RunContext) -> Turn | Holder:
        """Before an attempt: its turn, to be given to `_superluigi_end_turn`, or who makes the same elsewhere."""
        return exclusive.begin(self, run)

    def _superluigi_end_turn(self, turn: Turn) -> None:
        exclusive.end(turn)

    def _superluigi_holder(self, run: runs.RunContext, mode: Mode | None = None) -> Holder | None:
        """Who makes the outputs just now."""
        return exclusive.holder_of(self, run, mode)

    def current_attempt(self) -> Any:
        """The attempt at this task that runs in this thread, or None; two runs may share one task object."""
        return self.__dict__.get("_superluigi_attempts", {}).get(threading.get_ident())

    def abandon_attempts(self) -> None:
        """Drop what attempts at this task have staged: the run was interrupted, but their threads do not end."""
        for attempt in list(self.__dict__.get("_superluigi_attempts", {}).values()):
            attempt.stack.close()
        exclusive.abandon(self)

    def __getstate__(self) -> dict[str, Any]:
        own = ("_superluigi_attempts", "_superluigi_turns", "_superluigi_variants", outputs.MISSING)
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __reduce__(self) -> Any:
        return task_pickle.reduced(self, Task)

    @property
    def must_pickle(self) -> bool:
        """Whether another process needs this task pickled, since its texts name tasks that only we know."""
        return task_pickle.must_pickle(self)


class ExternalTask(Task, LuigiExternalTask):
    """Data that others make. Folders and prefixes without a record of ours are accepted as they are.

    Its checks are called before a task reads it, once for each version of it.
    """

    run = None  # type: ignore[assignment]  # Luigi's mark of an external task

    def _superluigi_admit(self) -> None:
        """Asked before a task of Luigi's reads it."""
        admission.admit(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "output" in cls.__dict__:
            type.__setattr__(cls, "output", _external(cls.__dict__["output"]))


def _external(output: Callable[[Any], object]) -> Callable[[Any], object]:
    @functools.wraps(output)
    def accepting(self: object) -> object:
        targets = output(self)
        for target in graph.flatten(targets):
            location = graph.asked(target, "location")
            if isinstance(location, Location):
                location.external = True
        return targets

    return accepting


def hash_of(task: AnyTask) -> str:
    """`task_hash` of any Luigi task, ours or not.

    Raises:
        DefinitionError: the requirements form a cycle, or something in them is no task.
    """
    if "task_hash" in task.__dict__:
        return str(task.__dict__["task_hash"])
    known: dict[str, str] = {}  # by id: `externalize(Task)` makes a new class, so a new task, at each call
    required: dict[str, object] = {}

    def children(node: AnyTask) -> list[luigi.Task]:
        structure = _required(node)
        nothing = structure is None or (type(structure) is list and not structure)  # as most tasks require
        required[node.task_id] = structure = structure if nothing else _settled(structure)
        if requires_hook(type(node)) not in (requires_hook(LuigiTask), requires_hook(Conveniences)):
            below = force.requirements(node)
        else:
            below = [] if nothing else graph.flatten(structure)
            if isinstance(node, Task) and node.init:
                below += node.required_by_steps()
        strangers: list[object] = [one for one in below if not isinstance(one, luigi.Task)]
        for stranger in strangers:
            refuse_other_than_tasks(stranger, "requires()", node)
        return [requirement for requirement in below if "task_hash" not in requirement.__dict__] if below else below

    try:
        for node, _ in graph.walk([task], children):
            known[node.task_id] = _hash_one(node, required[node.task_id], known)
            if isinstance(node, Task):
                node.__dict__["task_hash"] = known[node.task_id]
    except graph.CycleError as error:
        raise DefinitionError(f"{task.task_family} requires itself: {error}.") from error
    return known[task.task_id]


def _required(task: AnyTask) -> object:
    """`task.requires()`; an attempt asks once, for its hash and its inputs, unless it gets iterators."""
    here = attempt_context.get(task)
    if here is None:
        return task.requires()
    if here.required is None:
        structure = task.requires()
        if _gives_once(structure):
            return structure
        here.required = (structure,)
    return here.required[0]


def _gives_once(structure: Any) -> bool:
    """Whether there is an iterator in the nesting, which can be walked only once."""
    if not graph.is_iterable(structure):  # most items are tasks: they are known first, here and below
        return False
    if isinstance(structure, Mapping):
        return any(_gives_once(value) for value in structure.values())
    if isinstance(structure, (list, tuple)):
        return any(_gives_once(item) for item in structure)
    return hasattr(type(structure), "__next__")


def _settled(structure: Any) -> object:
    """The same nesting with iterators, which give their items only once, as lists; sets stay sets."""
    if not graph.is_iterable(structure) or isinstance(structure, (set, frozenset)):
        return structure
    if isinstance(structure, Mapping):
        return {key: _settled(value) for key, value in structure.items()}
    return [_settled(item) for item in structure]


def _hash_one(task: AnyTask, required: object, known: Mapping[str, str]) -> str:
    hashes = _stable(required, known)
    params = task.to_str_params(only_significant=True, only_public=True)
    if class_seed := str(graph.written(task, "hash_seed", "")):
        params.setdefault("hash_seed", class_seed)
    return graph.digest([task.get_task_family(), params, hashes])[:32]


def _stable(structure: Any, known: Mapping[str, str]) -> Any:
    """The hashes of required tasks in their nesting, as JSON that is the same in every process."""
    if structure is None:
        return None
    if not graph.is_iterable(structure):
        return structure.__dict__.get("task_hash") or known[structure.task_id]
    if isinstance(structure, Mapping):  # keys may be anything: dates, tuples, numbers beside text
        items = [[f"{type(key).__name__} {key}", _stable(value, known)] for key, value in structure.items()]
        return ["dict", sorted(items, key=lambda item: item[0])]
    if isinstance(structure, (set, frozenset)):
        return sorted((_stable(item, known) for item in structure), key=str)
    return [_stable(item, known) for item in structure]


def _remembered(cls: type, name: str, find: Callable[[type], object]) -> Any:
    """`find(cls)`, kept under `name` until some task class changes."""
    known: tuple[int, Any] | None = cls.__dict__.get(name)
    if known is None or known[0] != TaskMeta._parameter_version:
        known = TaskMeta._parameter_version, find(cls)
        type.__setattr__(cls, name, known)
    return known[1]


class _Texts:
    """Which parameters of a class become texts, and how."""

    def __init__(self, cls: Any) -> None:
        behind = cls.__mro__[cls.__mro__.index(Task) + 1 :]
        #: Whether no class between ours and Luigi's has a `to_str_params` of its own.
        self.luigis = next(base for base in behind if "to_str_params" in vars(base)) is LuigiTask
        params = [(n, p) for n, p in cls.get_params() if p.visibility != ParameterVisibility.PRIVATE]
        #: By `only_significant` and `only_public`.
        self.shown = {
            (significant, public): [
                (name, parameter.serialize)
                for name, parameter in params
                if (parameter.significant or not significant)
                and (parameter.visibility == ParameterVisibility.PUBLIC or not public)
            ]
            for significant in (False, True)
            for public in (False, True)
        }
        #: What does not count while it has its default.
        self.ignored = [(name, p) for name, p in params if getattr(p, "ignore_default", False)]


#: Names that users of the first `super-luigi` package import from here, and where they are by now.
_ELSEWHERE = {
    "AtomicTaskWithMetadata": ("superluigi.tasks.atomic", "AtomicTaskWithMetadata"),
    "TaskWithMetadata": ("superluigi.tasks.atomic", "TaskWithMetadata"),
    "BaseTask": ("superluigi.tasks.base", "Task"),
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, known = _ELSEWHERE[name]
    return getattr(importlib.import_module(module), known)


def apply_to_target(target: Any, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The same nesting of targets with `fn(target, *args, **kwargs)` in place of each."""
    return graph.map_structure(lambda one: fn(one, *args, **kwargs), target)


def build(tasks: Any, central_scheduler: bool = False) -> bool:
    """Run a task or a list of them by `luigi.build`; whether all went well. `run_task` raises instead, and says why."""
    return bool(
        luigi.build(list(tasks) if graph.is_iterable(tasks) else [tasks], local_scheduler=not central_scheduler)
    )
