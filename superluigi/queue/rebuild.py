"""A task from its row: made again, and compared with what was submitted, or refused."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Mapping
from typing import Any, cast

import luigi
from luigi.task_register import Register, TaskClassAmbigiousException, TaskClassNotFoundException

from superluigi import config, graph
from superluigi.errors import DefinitionError, ParameterError
from superluigi.formats.compare import same

#: What JSON gives back as it was.
_IN_JSON = (type(None), bool, int, float, str)


def values_beside(task: luigi.Task, texts: Mapping[str, str]) -> dict[str, object] | None:
    """Values whose texts do not give them back, and that JSON can hold; None when one needs more than that."""
    found: dict[str, object] = {}
    for name, parameter in type(task).get_params():
        if name not in texts:
            continue
        held = task.param_kwargs[name]
        if _comes_back(parameter, texts[name], held):
            continue
        if type(held) not in _IN_JSON:
            return None
        found[name] = held
    return found


def _comes_back(parameter: luigi.Parameter[Any], text: str, held: object) -> bool:
    """Whether `text` is read as the value `held`, of the same type, which is written as `text` again."""
    try:
        again = as_held(parameter.normalize(parameter.parse(text)))
        return same(again, held) and parameter.serialize(again) == text
    except Exception:  # noqa: BLE001 `parse` of any parameter class may raise anything
        return False


def as_held(value: object) -> object:
    """`value` as Luigi's tasks hold it: it makes tuples of lists and sets."""
    return tuple(value) if isinstance(value, (list, set)) else value


def compare(task: luigi.Task, task_id: str, params: Mapping[str, object]) -> luigi.Task:
    """`task` itself, if it is the one of the row with this id and these parameters.

    Raises:
        ParameterError: it is another one, which must not run in its name.
    """
    now = task.to_str_params()
    others = [name for name, text in texts_of(params).items() if now.get(name) != text]
    if task.task_id == task_id and not others:
        return task
    differ = ", ".join(f"{name} is {now.get(name)!r}, not {texts_of(params)[name]!r}" for name in others)
    raise ParameterError(
        f"What this process makes of {task_id} is another task, {task.task_id}{f' ({differ})' if differ else ''}; "
        "nothing ran. Its class has changed since it was submitted, or a value reads differently in each process (a "
        "set, an object without a text of its own). Submit it again, with values whose text is the same everywhere."
    )


def texts_of(params: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a row's parameters."""
    return {name: held if isinstance(held, str) else held["text"] for name, held in params.items()}


def rebuild(
    module: str,
    name: str,
    params: Mapping[str, object],
    code: bytes | None = None,
    tags: Mapping[str, object] | None = None,
    *,
    task_id: str,
) -> luigi.Task:
    """The task that a row describes, with its tags; imports its module.

    Raises:
        ParameterError: the module does not define it, or not with these parameters, or makes another task of them.
        DefinitionError: it is pickled, and `allow_pickle` is false.
    """
    return remake(found(module, name, code), name, task_id, params, tags)


def found(module: str, name: str, code: bytes | None) -> type[luigi.Task] | luigi.Task:
    """The class that a row names, or the very task, where that was stored by value.

    Raises:
        ParameterError: the module does not define it.
        DefinitionError: it is pickled, and `allow_pickle` is false.
    """
    if code is not None:
        if not config.get("allow_pickle"):
            raise DefinitionError(
                f"{name} was pickled into the queue, and allow_pickle is false: reading it would run what the "
                "submitter put there. Set allow_pickle if you trust them, or have it defined in a module."
            )
        return cloud_loads(code)
    try:
        home = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ParameterError(
            f"There is no module {module!r} here (no {error.name!r} on the import path): it was renamed, or belongs to "
            "another folder or environment."
        ) from error
    cls = class_of(name, module)
    if cls is None:
        raise ParameterError(
            f"Module {module!r} ({getattr(home, '__file__', 'built in')}) defines no task {name!r} when it is "
            "imported. Tasks must be defined at the top of a module; or submit(…, by_value=True)."
        )
    return cls


def remake(
    home: type[luigi.Task] | luigi.Task, name: str, task_id: str, params: Mapping[str, object],
    tags: Mapping[str, object] | None,
) -> luigi.Task:  # fmt: skip
    """The task of a row, of that class or pickled as a whole, with its tags.

    Raises:
        ParameterError: the class does not take these parameters, or makes another task of them.
    """
    if isinstance(home, luigi.Task):
        return compare(home, task_id, params)
    task = _made(home, name, params)
    if task.task_id != task_id or task.to_str_params() != texts_of(params):
        # Luigi remembers instances by values that are equal, such as 1, 1.0 and True: there may be another one.
        Register.clear_instance_cache()
        task = compare(_made(home, name, params), task_id, params)
    if tags and graph.written(task, "tags") != tags:
        cast(Any, task).tags = dict(tags)
    return task


def _made(cls: type[luigi.Task], name: str, params: Mapping[str, Any]) -> luigi.Task:
    try:
        beside = {key: held["value"] for key, held in params.items() if not isinstance(held, str)}
        if not beside:
            task: luigi.Task = cls.from_str_params(params)
            return task
        given = {key: held for key, held in params.items() if key not in beside}
        for key, parameter in cls.get_params():
            if key in given:
                given[key] = parameter.parse(given[key])
        return cls(**given, **beside)
    except Exception as error:  # `parse` of any parameter class may raise anything
        raise ParameterError(f"{name} cannot be made from the parameters {texts_of(params)}: {error}") from error


@functools.lru_cache(maxsize=64)
def cloud_loads(code: bytes) -> type[luigi.Task] | luigi.Task:
    """The class, or the whole task, in `code`; the same one each time, as an import would give."""
    import cloudpickle  # type: ignore[import-untyped]

    found: type[luigi.Task] | luigi.Task = cloudpickle.loads(code)
    return found


def class_of(name: str, module: str) -> type[luigi.Task] | None:
    """The class of that family which this very module defines: another module may use the name as well."""
    try:
        cls: type[luigi.Task] | None = Register.get_task_cls(name)
    except TaskClassNotFoundException:
        return None
    except TaskClassAmbigiousException:
        inside = getattr(sys.modules[module], name.rpartition(".")[2], None)
        cls = inside if isinstance(inside, type) and issubclass(inside, luigi.Task) else None
    return cls if cls is not None and cls.__module__ == module else None
