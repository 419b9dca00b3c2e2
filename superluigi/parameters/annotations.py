"""`Param`, `Meta`, `Requires` and their flags: annotations of a class body that become Luigi parameters.

Type checkers see plain types: `Param[int]` is `int`, `Requires[Features]` takes and gives a `Features`.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, get_args, get_origin, overload

import luigi
from typing_extensions import TypeAliasType
from typing_extensions import TypeVar as TypeVarWithDefault

from superluigi import graph
from superluigi.errors import DefinitionError, ParameterError
from superluigi.luigi_compat.parameters import default_of, give_default, keep_place
from superluigi.parameters.adapters.factory import task_adapter_for
from superluigi.parameters.checked import NO_DEFAULT, Checked, Frozen, RefusedError, TaskReference, parameter_for
from superluigi.parameters.luigi_task import AnyTask
from superluigi.parameters.references import tasks_in

_NAMES = re.compile(r"\b(Param|Meta|Requires|Const)\b")


class IgnoreDefault:
    """`Param[float, IgnoreDefault] = .1`: while it equals its default, the parameter is no part of the identity.

    So a parameter can be added later and the outputs made before still count.
    """


@dataclass(frozen=True)
class Declared:
    """What an annotation says at run time."""

    kind: Any
    significant: bool = True
    ignore_default: bool = False
    constant: bool = False
    requires: bool = False

    def __or__(self, other: object) -> NoReturn:
        raise DefinitionError(_OUTERMOST.format(f"Param[…] | {other!r}"))

    __ror__ = __or__


if TYPE_CHECKING:
    T = TypeVar("T")
    TaskT = TypeVar("TaskT", bound=AnyTask)
    Value_co = TypeVar("Value_co", covariant=True)
    Flag = TypeVarWithDefault("Flag", default=Any)

    #: A parameter that is part of the task's identity; a second item is `IgnoreDefault` or `Const`.
    Param = TypeAliasType("Param", T, type_params=(T, Flag))
    #: A parameter that is no part of the identity: the result does not depend on it.
    Meta = TypeAliasType("Meta", T, type_params=(T, Flag))

    class Produces(Protocol[Value_co]):
        """A task whose value is known to the type checker: one made by `@task`."""

        def _produces(self) -> Value_co: ...

    class Requires(Generic[T]):
        """A task that is passed in and required: of a class, or of any class if `T` is a type of values."""

        @overload
        def __get__(self: Requires[TaskT], instance: object, owner: object) -> TaskT: ...
        @overload
        def __get__(self: Requires[list[TaskT]], instance: object, owner: object) -> list[TaskT]: ...
        @overload
        def __get__(self: Requires[dict[str, TaskT]], instance: object, owner: object) -> dict[str, TaskT]: ...
        @overload
        def __get__(self, instance: object, owner: object) -> Any: ...
        def __get__(self, instance: object, owner: object) -> Any: ...
        def __set__(self, instance: object, value: T | Produces[T]) -> None: ...

else:

    class _Annotation:
        significant = True
        requires = False

        def __new__(cls, *args: object, **kwargs: object) -> NoReturn:
            kind = getattr(args[0], "__name__", repr(args[0])) if args else "int"
            raise DefinitionError(
                f"{cls.__name__}({', '.join(map(repr, args))}) makes no parameter. Write it as an annotation, with the "
                f"type in brackets: n: {cls.__name__}[{kind}]."
            )

        def __class_getitem__(cls, item: object) -> Declared:
            kind, *flags = item if isinstance(item, tuple) and item else (item,)
            names = {getattr(flag, "__name__", repr(flag)) for flag in flags}
            if names - {"IgnoreDefault", "Const"}:
                raise DefinitionError(
                    f"{cls.__name__}[…] takes IgnoreDefault or Const beside the type, not {', '.join(names)}."
                )
            return Declared(kind, cls.significant, "IgnoreDefault" in names, "Const" in names, cls.requires)

    class Param(_Annotation):
        """A parameter that is part of the task's identity: `epochs: Param[int] = 100`.

        Equal dicts are one value, whose keys are in order; a list of pairs keeps the order that it was given.
        """

    class Meta(_Annotation):
        """A parameter that is no part of the identity: `device: Meta[str] = "cpu"`."""

        significant = False

    class Requires(_Annotation):
        """A task that is passed in and required: `features: Requires[FeaturesTask]`."""

        requires = True


def parameters_from_annotations(
    class_name: str, namespace: Mapping[str, Any], bases: Iterable[type] = ()
) -> dict[str, luigi.Parameter]:
    """The Luigi parameters that a class body declares by annotation; empty for classic classes.

    Also those of its mix-ins that are no tasks, a plain value that overrides the default of an inherited one, and
    those whose type a generic base had left open (`class Ints(Base[int])`). Annotations that are text may use the
    names of the functions around the class statement.

    Raises:
        DefinitionError: an annotation that no parameter can be made of.
        ParameterError: a default that its own annotation refuses.
    """
    bases = tuple(bases)
    _refuse_uncalled(class_name, namespace)
    found: dict[str, luigi.Parameter] = {}
    for name, annotation in _annotations(class_name, namespace).items():
        inherited = _inherited(name, bases)
        found[name] = _made(class_name, name, annotation, namespace, inherited)
    for mixin, names in _mixins(bases):
        for name, annotation in names.items():
            if name not in namespace and name not in found and _owner(name, bases) in (mixin, None):
                found[name] = _made(class_name, name, annotation, vars(mixin), None)
    for name, generic, kind in _made_concrete(namespace.get("__orig_bases__", ())):
        if name not in namespace and name not in found:
            default = {} if default_of(generic) is NO_DEFAULT else {name: default_of(generic)}
            flags = generic.significant, generic.ignore_default, generic.constant, isinstance(generic, TaskReference)
            found[name] = _made(class_name, name, Declared(kind, *flags), default, generic)
    for name, value in namespace.items():
        inherited = _inherited(name, bases)
        if isinstance(inherited, luigi.Parameter) and inspect.isfunction(value):
            raise DefinitionError(
                f"{class_name}.{name} is a method, but {name!r} is a parameter of its base class. "
                "Choose another name for the method."
            )
        if (
            name not in found
            and isinstance(inherited, Checked)
            and not (isinstance(value, _DEFINED) or callable(value))
        ):
            found[name] = _with_default(class_name, name, inherited, value)
    return found


def _refuse_uncalled(class_name: str, namespace: Mapping[str, Any]) -> None:
    """Refuse what looks like a parameter and makes none: a class of parameters as annotation, or not called."""
    for name, annotation in (namespace.get("__annotations__") or {}).items():
        said = annotation.__name__ if isinstance(annotation, type) else str(annotation).rpartition(".")[2]
        if _is_parameter_class(annotation) or _is_parameter_class(getattr(luigi, said, None)):
            default = f" = {namespace[name]!r:.60}" if name in namespace else ""
            if not isinstance(namespace.get(name), luigi.Parameter):
                kind = _KINDS.get(said, "…")
                raise DefinitionError(
                    f"{class_name}.{name}: {said}{default} makes no parameter: an annotation says the type of the "
                    f"value. Write {name}: Param[{kind}]{default}; or, in Luigi's way, "
                    f"{name} = {said}({'' if not default else f'default{default[1:]}'.replace('= ', '=')})."
                )
    for name, value in namespace.items():
        if _is_parameter_class(value) and name != value.__name__:  # else it is written here
            called = f"{name} = {value.__name__}()"
            raise DefinitionError(f"{class_name}.{name} = {value.__name__} makes no parameter. Write {called}.")
        if isinstance(value, Declared):
            kind = getattr(value.kind, "__name__", value.kind)
            word = "Requires" if value.requires else "Param" if value.significant else "Meta"
            raise DefinitionError(
                f"{class_name}.{name} = {word}[{kind}] makes no parameter. Write {name}: {word}[{kind}]."
            )


#: Luigi's parameters and the types that one would annotate.
_KINDS = {
    "IntParameter": "int", "FloatParameter": "float", "BoolParameter": "bool", "Parameter": "str",
    "StrParameter": "str", "DateParameter": "date", "PathParameter": "Path", "ListParameter": "list",
    "DictParameter": "dict", "TupleParameter": "tuple", "DateSecondParameter": "datetime",
    "TimeDeltaParameter": "timedelta",
}  # fmt: skip


def _is_parameter_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, luigi.Parameter) and value.__name__.endswith("Parameter")


def required_by(task: luigi.Task) -> dict[str, object]:
    """What annotations and arguments of `task` require: name -> a task, or a structure of tasks; may be empty."""
    found = {}
    for name, parameter in task.get_params():
        held = task.param_kwargs.get(name)
        if isinstance(parameter, TaskReference):
            found[name] = held.value if isinstance(held, Frozen) else held
        elif isinstance(held, Frozen) and held.has_tasks:
            found[name] = held.value if isinstance(held.value, luigi.Task) else tasks_inside(held.value)
    return found


def tasks_inside(value: object) -> list[luigi.Task]:
    """The tasks inside the value of a parameter, each once."""
    return graph.unique(tasks_in(value))


def annotation_of(function: object, name: str) -> object:
    """The annotation of an argument (or `"return"`) of a function that is being defined; `...` if there is none.

    One that is text is read with the names in sight of the definition; if that fails it counts as none.
    """
    annotation = getattr(function, "__annotations__", {}).get(name, ...)
    if isinstance(annotation, str):
        names = _names_in_sight({"__module__": function.__module__})
        try:
            return eval(annotation, {"__builtins__": __builtins__}, names)
        except Exception:  # noqa: BLE001  names that only type checkers see are no mistake here
            return ...
    return annotation


def _annotations(class_name: str, namespace: Mapping[str, Any]) -> dict[str, Declared]:
    texts: Mapping[str, object] = namespace.get("__annotations__", {})
    if not texts:
        return {}
    names: Mapping[str, object] | None = None
    found = {}
    for name, annotation in texts.items():
        while isinstance(annotation, str) and _NAMES.search(annotation):  # quoted where all annotations are text
            names = _names_in_sight(namespace) if names is None else names
            annotation = _evaluated(class_name, name, annotation, names)
        if annotation is Param or annotation is Meta or annotation is Requires:
            raise DefinitionError(f"{class_name}.{name}: write {annotation.__name__}[…] with a type.")
        if isinstance(annotation, Declared):
            found[name] = annotation
        elif any(isinstance(inside, Declared) for inside in get_args(annotation)):
            raise DefinitionError(_OUTERMOST.format(f"{class_name}.{name}"))
    return found


_OUTERMOST = (
    "{}: Param, Meta and Requires stand outside of all else. Write Param[int | None], Param[list[int]], and so on."
)


def _mixins(bases: tuple[type, ...]) -> Iterator[tuple[type, dict[str, Declared]]]:
    """Bases that are no tasks, with what they declare."""
    for base in bases:
        for owner in base.__mro__:
            if "__annotations__" in vars(owner) and not issubclass(owner, luigi.Task):
                yield owner, _annotations(owner.__name__, vars(owner))


def _made_concrete(written_bases: Iterable[object]) -> Iterator[tuple[str, Checked, object]]:
    """The parameters of generic bases whose type variables are given now: name, parameter, its type."""
    for written in written_bases:
        meant = dict(zip(getattr(get_origin(written), "__parameters__", ()), get_args(written), strict=False))
        for owner in getattr(get_origin(written), "__mro__", ()) if meant else ():
            for name, parameter in vars(owner).items():
                annotation: Any = getattr(parameter, "annotation", None)
                bare = isinstance(annotation, TypeVar)
                variables = (annotation,) if bare else getattr(annotation, "__parameters__", ())
                if isinstance(parameter, Checked) and set(variables) & set(meant):
                    given = tuple(meant.get(variable, variable) for variable in variables)
                    yield name, parameter, given[0] if bare else annotation[given]


def _names_in_sight(namespace: Mapping[str, Any]) -> Mapping[str, object]:
    """Names that an annotation may use: the class body, the functions around it, its module, builtins."""
    module = vars(sys.modules.get(namespace.get("__module__", ""), None) or sys)
    scopes: list[Any] = [dict(namespace)]
    frame = sys._getframe(1)
    while frame.f_globals is not module and frame.f_back is not None:  # up to the class statement
        frame = frame.f_back
    while frame.f_globals is module and frame.f_code.co_name != "<module>":
        scopes.append(dict(frame.f_locals))
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ChainMap(*scopes, module)


def _evaluated(class_name: str, name: str, text: str, names: Mapping[str, object]) -> object:
    try:
        return eval(text, {"__builtins__": __builtins__}, names)
    except Exception as error:  # an annotation is an expression of the user; it may raise anything
        raise DefinitionError(
            f"{class_name}.{name}: the annotation {text!r} cannot be read ({type(error).__name__}: {error}). "
            "The types in it must be importable when the class is made, not only for type checkers."
        ) from error


def _made(
    class_name: str, name: str, declared: Declared, namespace: Mapping[str, object], inherited: object
) -> luigi.Parameter:
    options: dict[str, Any] = {"significant": declared.significant}
    given = namespace.get(name, ...)
    if isinstance(given, luigi.Parameter):
        given.significant = given.significant and declared.significant
        given.ignore_default = declared.ignore_default  # type: ignore[attr-defined]
        return given
    if given is not ...:
        options["default"] = given
    elif declared.ignore_default or declared.constant:
        raise DefinitionError(f"{class_name}.{name}: a parameter with IgnoreDefault or Const needs a default.")
    try:
        if declared.requires:
            parameter: Checked = TaskReference(**options)
            parameter.adapter, parameter.annotation = task_adapter_for(declared.kind), declared.kind
        else:
            parameter = parameter_for(declared.kind, **options)
    except DefinitionError as error:
        raise DefinitionError(f"{class_name}.{name}: {error}") from error
    parameter.ignore_default, parameter.constant = declared.ignore_default, declared.constant
    return _checked_default(class_name, name, parameter, inherited)


def _with_default(class_name: str, name: str, inherited: Checked, value: object) -> Checked:
    parameter = copy.copy(inherited)
    give_default(parameter, value)
    return _checked_default(class_name, name, parameter, inherited)


def _checked_default(class_name: str, name: str, parameter: Checked, inherited: object) -> Checked:
    if isinstance(inherited, luigi.Parameter):
        keep_place(parameter, inherited)  # an overridden field keeps its place, as in a dataclass
    if default_of(parameter) is not NO_DEFAULT:
        try:
            parameter.checked(default_of(parameter))
        except RefusedError as error:
            raise ParameterError(
                f"{class_name}.{name} = {default_of(parameter)!r}: expected {error}. Correct one of them."
            ) from error
    return parameter


def _inherited(name: str, bases: Iterable[type]) -> object:
    owner = _owner(name, bases)
    return None if owner is None else owner.__dict__[name]


def _owner(name: str, bases: Iterable[type]) -> type | None:
    return next((owner for base in bases for owner in base.__mro__ if name in owner.__dict__), None)


_DEFINED = (luigi.Parameter, property, staticmethod, classmethod)
