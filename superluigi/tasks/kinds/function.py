"""Functions as tasks: arguments become parameters, tasks in arguments become requirements, the value the output."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, get_args, overload

import luigi

from superluigi.arguments import guarded
from superluigi.config import suggestion
from superluigi.errors import DefinitionError, repeated
from superluigi.parameters.adapters.content import copied
from superluigi.parameters.annotations import Declared, annotation_of
from superluigi.parameters.checked import Checked, Frozen, parameter_for
from superluigi.parameters.references import replaced
from superluigi.tasks import reserved_names
from superluigi.tasks.atomic import AtomicTaskWithMetadata
from superluigi.tasks.values import Reader, table_wanted

Value = TypeVar("Value")

#: Arguments that are no parameters: the function gets what `run` of a class would get by these names.
GIVEN = ("metadata", "output_path", "task_dir")


class FunctionTask(AtomicTaskWithMetadata, Generic[Value]):
    """Base of the task classes that `@task` makes; one class a function."""

    #: The function as it was written.
    function: ClassVar[Callable[..., Any]]
    #: `None` is a value like others for a function.
    _superluigi_keeps_none: ClassVar[bool] = True

    if TYPE_CHECKING:

        def result(self, as_type: Any = None) -> Value: ...
        def _produces(self) -> Value: ...

    def arguments(self, reader: Reader) -> dict[str, Any]:
        """The arguments of the call, with the values of tasks in place of the tasks."""
        return {name: self._superluigi_argument(name, parameter, reader) for name, parameter in self.get_params()}

    def call(self, given: Mapping[str, Any]) -> Any:
        """Call the function with its arguments and what it asked for by name."""
        return type(self).function(**self.arguments(self.current_attempt().reader), **given)

    def _superluigi_argument(self, name: str, parameter: luigi.Parameter[Any], reader: Reader) -> Any:
        held = self.param_kwargs[name]
        if not (isinstance(held, Frozen) and held.has_tasks):
            return getattr(self, name)
        annotation = getattr(parameter, "annotation", None)
        value = copied(held.value)
        if _is_path(annotation):
            return replaced(value, reader.copy)
        table = table_wanted(annotation)
        return replaced(value, lambda task: reader.value(task, table))


class TaskFunction(Protocol[Value]):
    """What type checkers see of a function under `@task`: a call makes a task that will have the value.

    Arguments may be values or tasks; they are checked when the task is made, before anything runs.
    """

    function: Callable[..., Any]
    __name__: str

    def __call__(self, *args: Any, **kwargs: Any) -> FunctionTask[Value]: ...


@overload
def task(function: Callable[..., Value]) -> TaskFunction[Value]: ...
@overload
def task(
    *, output: Callable[[Any], Any] | None = None, base: type[FunctionTask[Any]] = FunctionTask, **attributes: Any
) -> Callable[[Callable[..., Value]], TaskFunction[Value]]: ...
@guarded
def task(
    function: Callable[..., Any] | None = None,
    *,
    output: Callable[[Any], Any] | None = None,
    base: type[FunctionTask[Any]] = FunctionTask,
    **attributes: Any,
) -> Any:
    """Make a function a Luigi task class: `fraction(seed=1)` is then a task whose value the function will return.

    Arguments are parameters, checked against their annotations; a task may stand for any of them, or inside
    lists, tuples and dicts, and is required; the function gets its value (a path where the annotation is `Path`).
    `Meta[…]` and the flags of `Param[…]` work as in classes. Arguments called `metadata`, `output_path` and
    `task_dir` are no parameters: they are given.

    Args:
        output: `lambda task: target`; by default `<store>/<task_family>/<task_hash><suffix>`.
        base: a subclass of `FunctionTask` to derive from.
        attributes: attributes of the task class: `resources={"gpu": 1}`, `priority=5`, `retry_count=3`,
            `worker_timeout=60`, `suffix=".parquet"`, `task_namespace="…"`.

    Raises:
        DefinitionError: arguments that cannot be parameters.
    """

    def decorate(written: Callable[..., Any]) -> Any:
        return make_class(written, base, output, attributes)

    return decorate if function is None else decorate(function)


def make_class(
    function: Callable[..., Any],
    base: type[FunctionTask[Any]],
    output: Callable[[Any], Any] | None,
    attributes: Mapping[str, Any],
) -> type[FunctionTask[Any]]:
    """The task class of a function; named, documented and found by pickle as the function was."""
    if not inspect.isfunction(function):
        raise DefinitionError(f"@task needs a function, not {function!r}.")
    name = function.__name__
    if name == "<lambda>":
        raise DefinitionError("@task needs a function with a name: a lambda cannot be found again. Use def.")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"@task: {name} is async, and nothing here awaits it. Use def, with asyncio.run inside.")
    for attribute in attributes:
        if attribute not in reserved_names.SETTINGS and not hasattr(base, attribute):
            hint = suggestion(attribute, reserved_names.SETTINGS)
            raise DefinitionError(f"@task({attribute}=…) for {name}: tasks have no attribute {attribute!r}.{hint}")
    signature = inspect.signature(function)
    given = [argument for argument in signature.parameters if argument in GIVEN]
    namespace: dict[str, Any] = {
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__doc__": function.__doc__,
        "function": staticmethod(function),
        "returns": annotation_of(function, "return"),
        "run": _run(given),
        **attributes,
    }
    for argument in signature.parameters.values():
        if argument.name not in GIVEN:
            namespace[argument.name] = _parameter(function, argument, base)
    if output is not None:
        chosen = output
        namespace["output"] = lambda self: chosen(self)
    metaclass: Any = type(base)
    made: type[FunctionTask[Any]] = metaclass(name, (base,), namespace)
    return made


def _run(given: list[str]) -> Callable[..., Any]:
    def run(self: FunctionTask[Any], **names: Any) -> Any:
        return self.call(names)

    keyword = inspect.Parameter.KEYWORD_ONLY
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what the attempt looks at
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(inspect.Parameter(n, keyword) for n in given),
        ]
    )
    return run


def _parameter(function: Callable[..., Any], argument: inspect.Parameter, base: type) -> Checked:
    where = f"{function.__name__}({argument.name})"
    if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
        raise DefinitionError(f"{where}: a task cannot have *args or **kwargs. Take a list or a dict instead.")
    if argument.kind is argument.POSITIONAL_ONLY:
        raise DefinitionError(f"{where}: arguments are given by name. Take the '/' out.")
    own = argument.name in ("self", "cls", "function")
    if own or argument.name in reserved_names.RESERVED or hasattr(base, argument.name):
        raise DefinitionError(f"{where}: {argument.name!r} has a meaning for every task. Choose another name.")
    annotation = annotation_of(function, argument.name)
    declared = annotation if isinstance(annotation, Declared) else Declared(Any if annotation is ... else annotation)
    options: dict[str, Any] = {
        "significant": declared.significant,
        "positional": argument.kind is not argument.KEYWORD_ONLY,
    }
    if argument.default is not argument.empty:
        options["default"] = argument.default
    try:
        parameter = parameter_for(declared.kind, tasks=True, **options)
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from repeated(error)
    parameter.ignore_default, parameter.constant = declared.ignore_default, declared.constant
    return parameter


def _is_path(annotation: Any) -> bool:
    return annotation is Path or any(_is_path(argument) for argument in get_args(annotation))
