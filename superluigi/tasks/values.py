"""Values of tasks: what `run` returned is saved, what it asks for as `inputs` is loaded, and the default home."""

from __future__ import annotations

import contextlib
import gc
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, get_args, get_origin

import luigi

from superluigi import config, formats, graph
from superluigi.errors import DefinitionError, FormatError, TargetMissingError
from superluigi.formats.registry import is_class
from superluigi.formats.suffix_inference import table_kind
from superluigi.parameters.adapters.content import copied
from superluigi.parameters.annotations import tasks_inside
from superluigi.parameters.checked import Frozen, TaskReference
from superluigi.parameters.references import replaced, tasks_in
from superluigi.runs import context as runs
from superluigi.runs import families
from superluigi.setting_texts import SCHEME, at_home
from superluigi.storage.base import StagedWrite
from superluigi.storage.local_names import local_name
from superluigi.targets.addresses import meant
from superluigi.targets.base import AtomicTarget
from superluigi.targets.joining import is_written
from superluigi.tasks import inputs

UNKNOWN: Any = ...


class Reader:
    """Opens targets and keeps the temporary copies until `stack` is closed."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def path(self, target: luigi.Target) -> Path:
        """A local path holding what `target` holds, only to be read."""
        return self._stack.enter_context(inputs.open_input(target, True))

    def copy(self, task: luigi.Task) -> object:
        """Temporary copies of what a task made, in the shape of its outputs: the reader may change them."""
        return graph.map_structure(
            lambda target: self._stack.enter_context(inputs.open_input(target, False)), task.output()
        )

    def value(self, task: luigi.Task, as_type: object = None) -> Any:
        """The value of a complete task."""
        read = graph.written(task, "_superluigi_value")  # stand-ins know better: parts, paths, constants
        if read is not None:
            return read(self, as_type)
        own_load = graph.written(task, "load_output")
        if callable(own_load):
            return own_load(graph.map_structure(self.path, task.output()))
        wanted = as_type if _is_value_type(as_type) else returns(type(task))
        return graph.map_structure(lambda target: self.content(target, wanted), task.output())

    def content(self, target: luigi.Target, as_type: object = None) -> Any:
        """The value in one target, by the format that wrote it, else by suffix."""
        ours = inputs.to_target(target)
        format = None if ours is None else _recorded_format(ours)
        wanted = None if as_type is UNKNOWN else as_type
        return formats.load(self.path(target), as_type=wanted, format=format)


class LastingReader(Reader):
    """Gives the outputs' own paths for copies, which would be gone when their paths are looked at."""

    def copy(self, task: luigi.Task) -> object:
        return graph.map_structure(lambda target: getattr(target, "path", target), task.output())


def result(task: luigi.Task, as_type: object = None) -> object:
    """The value of a complete task.

    Raises:
        TargetMissingError: the task is not complete.
        FormatError: the value cannot be read.
    """
    missing = [target for target in graph.flatten(task.output()) if not target.exists()]
    if missing:
        raise TargetMissingError(
            f"{task} has no result yet: {missing[0]} is not there. Run it (superluigi.compute, run_task) first."
        )
    with contextlib.ExitStack() as stack:
        return LastingReader(stack).value(task, as_type)


def inputs_annotation(task: Any) -> Any:
    """What is known of the types that `inputs` should have: run's own annotation, else those in `Requires[…]`."""
    written = type(task).inputs_annotation
    if written not in (UNKNOWN, Any, object):
        return written
    return {name: parameter.annotation for name, parameter in task.get_params() if isinstance(parameter, TaskReference)}


def lazy(structure: Any, load: Callable[[luigi.Task, Any], Any], annotation: Any = None) -> object:
    """The values of a structure of tasks; in lists and dicts each is loaded when it is first looked at."""
    if structure is None:
        return None
    if isinstance(structure, luigi.Task):
        return load(structure, annotation)
    if isinstance(structure, Mapping):
        return LazyDict(dict(structure), load, annotation)
    if isinstance(structure, WithTasks):
        return structure.loaded(load)
    return LazyList(list(structure), load, annotation)


class WithTasks:
    """A part of a parameter's value that may have tasks inside: with their values in their places, else as it is."""

    def __init__(self, value: object) -> None:
        self.value = value

    def loaded(self, load: Callable[[luigi.Task, Any], object]) -> object:
        """The same shape with the values of the tasks; in lists and dicts each is loaded when it is looked at."""
        if isinstance(self.value, luigi.Task):
            return load(self.value, None)
        if next(tasks_in(self.value), None) is None:
            return copied(self.value)
        if type(self.value) is dict:
            return LazyDict({key: WithTasks(item) for key, item in self.value.items()}, load)
        if type(self.value) is list:
            return LazyList([WithTasks(item) for item in self.value], load)
        return replaced(self.value, lambda task: load(task, None))

    def __repr__(self) -> str:
        return repr(self.value)


def input_structure(task: Any) -> Any:
    """What `inputs` are loaded from: `requires()`, where parameters with tasks inside keep their shape."""
    required = task.requires()
    if not isinstance(required, dict):
        return required
    found = dict(required)
    for name, parameter in task.get_params():
        held = task.param_kwargs.get(name)
        if name not in found or not isinstance(held, Frozen) or isinstance(parameter, TaskReference):
            continue
        if isinstance(found[name], list) and found[name] == tasks_inside(held.value):
            found[name] = WithTasks(held.value)
    return found


class _Lazy:
    """The values of several tasks, each loaded when it is first looked at."""

    def __init__(self, tasks: Any, load: Callable[[luigi.Task, Any], object], annotation: object = None) -> None:
        self._tasks, self._load, self._annotation = tasks, load, annotation
        self._loaded: dict[Any, object] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<values of {self._tasks}>"

    def _value(self, key: Any) -> Any:
        if key not in self._loaded:
            self._loaded[key] = lazy(self._tasks[key], self._load, _item_annotation(self._annotation, key))
        return self._loaded[key]


class LazyList(_Lazy, Sequence[Any]):
    """Those of a list of tasks."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return self._value(range(len(self._tasks))[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (list, tuple, LazyList)) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # like a list


class LazyDict(_Lazy, Mapping[Any, Any]):
    """Those of a dict of tasks."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tasks)

    def __getitem__(self, key: object) -> Any:
        if key not in self._tasks:
            raise KeyError(f"{key!r}; there are {', '.join(map(repr, self._tasks)) or 'no inputs'}")
        return self._value(key)


def save_returned(
    task: object, user_run: Callable[..., object], value: object, stages: object, targets: object
) -> None:
    """Save what `run` returned into the stages, unless `run` wrote there itself.

    Raises:
        FormatError: no format keeps the value, or its shape is not that of `output()`.
    """
    flat: list[StagedWrite] = graph.flatten(stages)
    if any(is_written(staged) for staged in flat) or (value is None and not (flat and keeps_none(task, user_run))):
        return
    if not flat:
        raise FormatError(
            f"{task}: run() returned a {type(value).__name__}, but output() returns {targets!r}, so that it has no "
            "place. Return a target from output(), or nothing from run()."
        )
    _refuse_no_value(task, value, [staged.path for staged in flat])
    own_save = getattr(task, "save_output", None)
    if callable(own_save):
        own_save(value, graph.map_structure(lambda staged: staged.path, stages))
        for staged in flat:
            staged.notes = {"format": formats.BY_TASK}
        return
    places = dict(zip(map(id, flat), graph.flatten(targets), strict=True))
    for staged, part in _paired(task, stages, value):
        staged.notes = {"format": formats.save(part, staged.path, shown=places[id(staged)].path)}


def keeps_none(task: object, user_run: Callable[..., object]) -> bool:
    """Whether a `None` that `run` returns is a value, and not the end of a `run` that forgot to write."""
    if getattr(task, "_superluigi_keeps_none", False):
        return True
    if "output_path" in inspect.signature(user_run).parameters:
        return False
    annotation = returns(type(task))
    if annotation is UNKNOWN:
        return has_default_home(type(task))
    return annotation is Any or type(None) in get_args(annotation)


def has_default_home(task_class: type) -> bool:
    """Whether the class leaves it to us where its output lives."""
    return getattr(task_class.output, "is_default_home", False)  # type: ignore[attr-defined]  # a task class


def default_output(task: Any) -> AtomicTarget:
    """`<store>/<task_family>/<task_hash><suffix>`; the suffix follows what `run` returns."""
    suffix = getattr(task, "suffix", None) or formats.suffix_for(_known(returns(type(task))))
    _refuse_two_makers(task)
    return in_store(f"{local_name(task.get_task_family())}/{task.task_hash}{suffix}")


def _refuse_no_value(task: Any, value: Any, stages: Sequence[Path]) -> None:
    """Refuse what `run` returns in place of its value: a task that has not run, a class, a target, an empty stage.

    Raises:
        DefinitionError: says what to write.
    """
    for one in graph.flatten(value) if isinstance(value, (list, tuple, dict, set)) else [value]:
        if isinstance(one, luigi.Task):
            raise DefinitionError(
                f"run() of {task} returned the task {one}, which has not run, and not its value. Let requires() return "
                f"it and take `inputs`; or write `path = yield {type(one).__name__}(…)`."
            )
        if isinstance(one, luigi.Target):
            raise DefinitionError(
                f"run() of {task} returned {one!r:.200}, a target, and not a value. Return the value itself, which is "
                "saved there; or take `output_path` and write to it."
            )
        if isinstance(one, PurePath) and one in stages:
            raise DefinitionError(
                f"run() of {task} returned output_path, but has written nothing there. Write to it and return nothing; "
                "or return the value itself."
            )


def in_store(name: str) -> AtomicTarget:
    """The target called `name` in the store: a folder, or `s3://bucket/prefix`.

    Raises:
        DefinitionError: the store is no folder and no `s3://bucket/…`.
    """
    store = _store()
    if store.startswith("s3://"):
        from superluigi.storage.objects.s3.s3_errors import split
        from superluigi.targets import S3ObjectTarget

        bucket, prefix = split(store)
        if not bucket:
            raise DefinitionError(f"The store {store!r} names no bucket: write s3://bucket/prefix.")
        return S3ObjectTarget(bucket, "/".join(filter(None, ((prefix or "").strip("/"), name))))
    if (found := meant(store)) is not None:
        address = "s3://" + "/".join(filter(None, found))
        raise DefinitionError(f"The store {store!r} is no folder and no s3://bucket/prefix. Write {address!r}.")
    if SCHEME.match(store):
        raise DefinitionError(f"The store {store!r} is no folder and no s3://bucket/prefix.")
    from superluigi.targets import LocalFileTarget

    return LocalFileTarget(at_home(store).absolute() / name)


def _store() -> str:
    return str(runs.current().store or config.get("store"))


class _Home:
    """The folder of a family in a store: which classes have made tasks that live there."""

    def __init__(self, only: type) -> None:
        #: The class, as long as there is one.
        self.only: type | None = only
        #: By task id, once there are several.
        self.makers: dict[str, type] = {}


_homes: dict[tuple[str, str], _Home] = {}


def _refuse_two_makers(task: Any) -> None:
    """Refuse a task whose home is that of another class's task: two modules may have a class of one name.

    Raises:
        DefinitionError: names both classes.
    """
    cls = type(task)
    home = _homes.setdefault((_store(), task.get_task_family()), _Home(cls))
    if home.only is cls:
        return
    if home.only is not None:
        if families.is_one(cls, home.only) or not (families.is_in_force(cls) and families.is_in_force(home.only)):
            home.only = cls
            return
        made: list[Any] = [thing for thing in gc.get_referrers(home.only) if type(thing) is home.only]
        home.makers = {one.task_id: home.only for one in made if "task_id" in one.__dict__}
        home.only = None
    known = home.makers.setdefault(task.task_id, cls)
    if not families.is_one(known, cls):
        families.refuse(known, cls, task.task_id)


def returns(task_class: type) -> object:
    """The annotation of what the class's `run` (or function) returns; `UNKNOWN` if there is none."""
    return getattr(task_class, "returns", UNKNOWN)


def table_wanted(annotation: object) -> object:
    """The table type inside an annotation such as `list[polars.DataFrame]`; None if there is none."""
    if table_kind(annotation):
        return annotation
    for argument in get_args(annotation):
        found = table_wanted(argument)
        if found is not None:
            return found
    return None


def _is_value_type(annotation: object) -> bool:
    """Whether an annotation says what the value should be, rather than which task makes it."""
    if annotation in (None, UNKNOWN, Any, object) or isinstance(annotation, Mapping):
        return False
    return not (is_class(annotation) and issubclass(annotation, luigi.Task))


def _known(annotation: object) -> object:
    return object if annotation is UNKNOWN else annotation


def _recorded_format(target: AtomicTarget) -> str | None:
    record = target.read_metadata()
    format = ((record or {}).get("output") or {}).get("format")
    return format if isinstance(format, str) else None


def _paired(task: Any, stages: Any, value: Any) -> list[tuple[StagedWrite, object]]:
    """Each stage with its part of the value; one output takes the value whole."""
    if isinstance(stages, StagedWrite):
        return [(stages, value)]
    if isinstance(stages, Mapping) and isinstance(value, Mapping) and set(stages) == set(value):
        return [pair for key, staged in stages.items() for pair in _paired(task, staged, value[key])]
    if isinstance(stages, (list, tuple)) and isinstance(value, (list, tuple)) and len(stages) == len(value):
        return [pair for staged, part in zip(stages, value, strict=True) for pair in _paired(task, staged, part)]
    shape = f"a dict with the keys {list(stages)}" if isinstance(stages, Mapping) else f"{len(stages)} values"
    raise FormatError(
        f"{task}: run() returned a {type(value).__name__}, but output() has {shape}. "
        "Return the same shape, or write the files to output_path."
    )


def _item_annotation(annotation: Any, key: Any) -> object:
    """The annotation of one item of an annotated structure: list, tuple, dict or TypedDict; None if unknown."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, Mapping):
        return annotation.get(key)
    if is_class(annotation) and hasattr(annotation, "__total__"):
        return typing.get_type_hints(annotation).get(key)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return arguments[key] if isinstance(key, int) and key < len(arguments) else None
    if origin is not None and arguments:
        return arguments[1] if len(arguments) == 2 and arguments[1] is not Ellipsis else arguments[0]
    return None
