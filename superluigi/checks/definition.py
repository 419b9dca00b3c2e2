"""What may be a check: a method under `@check`, and in the attribute `checks` a schema, a model or a callable."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, Literal, TypeVar, cast, overload

from superluigi.arguments import guarded
from superluigi.checks import schemas
from superluigi.config import suggestion
from superluigi.errors import USERS_CODE, DefinitionError
from superluigi.formats.registry import kind_names
from superluigi.formats.suffix_inference import table_kind
from superluigi.parameters.annotations import annotation_of

Severity = Literal["error", "warn"]
SEVERITIES = ("error", "warn")
#: What a check may ask for by name.
NAMES = ("output_path", "value", "values", "metadata", "previous", "inputs")
#: A table that is computed when it is collected.
LAZY = "polars.LazyFrame"
_MARK = "_superluigi_check"
#: Module and qualified name -> function marked in the body of a class that has not been made yet.
_in_bodies: dict[tuple[str, str], FunctionType] = {}
#: Classes of these packages have none.
_LIBRARIES = ("superluigi.", "luigi.", "builtins.", "typing.")
#: Functions whose call answers nothing yet.
_ANSWER_LATER = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
_HELP = f"A check may ask for any of: {', '.join(NAMES)}."
Function = TypeVar("Function")


@dataclass(frozen=True)
class Check:
    """One check of one task, ready to be called with what it asks for, by name."""

    name: str
    severity: str
    names: tuple[str, ...]
    call: Callable[..., object]
    #: The type in which it wants tables; None for what they are by themselves.
    wants: object = None


@dataclass(frozen=True)
class Marked:
    """A schema, a model or what else takes no mark, with its severity."""

    item: object
    severity: str


@overload
def check(function: Function, *, severity: Severity = "error") -> Function: ...
@overload
def check(*, severity: Severity = "error") -> Callable[[Function], Function]: ...
@guarded
def check(function: object = None, *, severity: str = "error") -> Any:
    """Make a method of a task a check: it is called after `run`, before anything is published.

    It may ask by name for `output_path` (what was written; not to be changed), `value` (loaded by format, once for all
    checks), `values` (of several outputs, in the shape of `output()`), `metadata` (measures put there are recorded),
    `previous` (the output in force: `previous.metadata`, `previous.value`; None the first time) and `inputs`.

    `True` and `None` pass. `False`, a text, an exception, a table or series with false rows fail: with severity "error"
    nothing is published and the task fails with `CheckFailedError`; with "warn" it is published, and said.
    Around a schema or model (`check(schema, severity="warn")`) it gives that a severity.

    Raises:
        DefinitionError: no such severity, or nothing that could be a check.
    """
    if severity not in SEVERITIES:
        raise DefinitionError(f"check(severity={severity!r}): a severity is 'error' or 'warn'.")

    def decorate(written: object) -> object:
        plain = _plain(written)
        if inspect.isfunction(plain):
            marked = _copy_of(plain)  # other tasks may have the function with another severity
            setattr(marked, _MARK, severity)
            _in_bodies[marked.__module__, marked.__qualname__] = marked
            return type(written)(marked) if isinstance(written, (staticmethod, classmethod)) else marked
        if schemas.known(written) is None and not callable(written):
            raise DefinitionError(f"check(…) needs a function, a schema or a model, not {written!r:.100}.")
        return Marked(written, severity)

    return decorate if function is None else decorate(function)


def _copy_of(function: FunctionType) -> FunctionType:
    """The same function, to have attributes of its own."""
    made = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(made, function)
    del made.__dict__["__wrapped__"]
    made.__dict__.update(vars(function))
    return made


def has_checks(subject: object) -> bool:
    """Whether a task, or those of a class, if it is ours, have checks; as cheap as two attributes."""
    methods = getattr(subject if isinstance(subject, type) else type(subject), "_superluigi_checks", None)
    # without a default: a property that fails with AttributeError is not one that has no checks
    return methods is not None and (bool(methods) or bool(cast("Any", subject).checks))


def method_checks(cls: type) -> dict[str, str]:
    """Name -> severity of the attributes of a class that are checks, those of bases first.

    A method, schema or callable that overrides a check is one as well; None in its place takes it away.

    Raises:
        DefinitionError: one that cannot be called as checks are, or whose mark another decorator has hidden.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if f"{base.__module__}.".startswith(_LIBRARIES):
            continue
        for name, value in vars(base).copy().items():
            if (mark := _mark_of(value)) is not None:
                found[name] = mark
    for name in list(found):
        value = _written(cls, name)
        if value is None:
            del found[name]
            continue
        found[name] = _mark_of(value) or found[name]
        _attribute(cls, name, value, found[name], None)
    _refuse_hidden(cls)
    return found


def _written(cls: type, name: str) -> Any:
    """What stands under a name in a class or its bases; `inspect.getattr_static` says the same, far slower."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _mark_of(value: object) -> str | None:
    """The severity of a check, written as a method or around a schema, model or callable."""
    if isinstance(value, Marked):
        return value.severity
    mark = None
    with USERS_CODE:  # anything may stand in a class, and answer for any attribute
        mark = getattr(_plain(value), _MARK, None)
    return mark if isinstance(mark, str) else None


def _refuse_hidden(cls: type) -> None:
    """Refuse methods that were marked in the body of `cls` and are not checks any more: they would pass unasked."""
    for module, qualified in [key for key in _in_bodies if key[1].rpartition(".")[0] == cls.__qualname__]:
        if module != cls.__module__:
            continue
        del _in_bodies[module, qualified]
        name = qualified.rpartition(".")[2]
        value = vars(cls).get(name)
        if value is not None and _mark_of(value) is None:
            raise DefinitionError(
                f"{cls.__name__}.{name} has @check below another decorator, which hides it. Put @check above that one, "
                "or let it use functools.wraps."
            )


def _attribute(cls: type, name: str, value: object, severity: str, task: object) -> Check:
    """The check that is the `value` under a name of a class, to be called for `task` (None: to see that it can be).

    Raises:
        DefinitionError: it cannot be called as checks are.
    """
    where = f"{cls.__name__}.{name}"
    item = value.item if isinstance(value, Marked) else value
    if schemas.known(item) is not None or not hasattr(item, "__get__"):
        return replace(_from_item(where, item, severity), name=name)
    asked = _asked(where, _plain(item), bound=not isinstance(item, staticmethod))
    if task is None:
        call = _plain(item)
    elif isinstance(value, Marked):
        call = item.__get__(task, cls)
    else:
        call = getattr(task, name)
    return _ready(name, severity, asked, call, _plain(item))


def refuse_wrong(cls: type) -> None:
    """Refuse checks that could not be called, when the class is written.

    Raises:
        DefinitionError: says which and what could stand there.
    """
    type.__setattr__(cls, "_superluigi_checks", method_checks(cls))
    items = _written(cls, "checks")
    if isinstance(items, (list, tuple)):
        list(_listed(cls.__name__, items))
    if has_checks(cls) and getattr(cls, "run", None) is not None and "output_path" not in getattr(cls, "run_names", ()):
        raise DefinitionError(
            f"{cls.__name__} has checks, but writes its output where others see it before a check could. Derive "
            "from AtomicTaskWithMetadata (or from ExternalTask, for data that others make)."
        )


def checks_of(task: Any) -> list[Check]:
    """All checks of a task: those of its attribute `checks` first, then its methods, each under a name of its own.

    Raises:
        DefinitionError: as when the class is written, where `checks` is computed.
    """
    cls = type(task)
    items = task.checks
    if not isinstance(items, (list, tuple)):
        raise DefinitionError(f"{cls.__name__}.checks is {items!r:.100}; it is a list or tuple of checks.")
    found = [*_listed(cls.__name__, items)]
    for name, severity in getattr(cls, "_superluigi_checks", {}).items():
        value = _written(cls, name)
        if getattr(_plain(value), "__isabstractmethod__", False):
            raise DefinitionError(f"{cls.__name__}.{name} is an abstract check: override it, or set it to None.")
        found.append(_attribute(cls, name, value, severity, task))
    return list(_named_apart(found))


def _named_apart(checks: Sequence[Check]) -> Iterator[Check]:
    taken = {one.name for one in checks}
    seen: set[str] = set()
    for one in checks:
        name, count = one.name, 1
        while name in seen or (count > 1 and name in taken):
            count += 1
            name = f"{one.name}-{count}"
        seen.add(name)
        yield one if name == one.name else replace(one, name=name)


def _listed(where: str, items: Sequence[object]) -> Iterator[Check]:
    for position, item in enumerate(items):
        yield _from_item(f"{where}.checks[{position}]", item)


def _from_item(where: str, item: object, severity: str | None = None) -> Check:
    if isinstance(item, Marked):
        return _from_item(where, item.item, item.severity)
    known = schemas.known(item)
    if known is not None:
        return Check(known.name, severity or "error", ("value",), known.validate, known.wants)
    plain = _plain(item)
    severity = severity or cast("str", getattr(plain, _MARK, "error"))
    if not callable(plain) or isinstance(plain, type):
        raise DefinitionError(
            f"{where} is {item!r:.100}, which is no check. Give a pandera schema, a pydantic model or a function. "
            f"{_HELP}"
        )
    inner = plain.func if isinstance(plain, functools.partial) else plain
    name = str(getattr(inner, "__name__", None) or type(inner).__name__)
    try:
        asked = _asked(where, plain, bound=False, alone=True)
    except ValueError:  # not written in Python: it takes one thing
        return Check(name, severity, ("value",), lambda value: plain(value))
    if len(asked) == 1 and asked[0] not in NAMES:
        return _ready(name, severity, ("value",), lambda value: plain(value), plain, asked[0])
    return _ready(name, severity, asked, plain, plain)


def _ready(
    name: str, severity: str, asked: tuple[str, ...], call: Callable[..., object], written: object, value: str = "value"
) -> Check:
    """A check with the kind of table that its annotation of `value` names."""
    wants = None
    with contextlib.suppress(_Unread):
        wants = _wanted_once(written, value) if inspect.isfunction(written) else None
    if wants != LAZY:
        return Check(name, severity, asked, call, wants)

    def lazily(**given: Any) -> object:
        return call(**{key: one.lazy() if key == "value" else one for key, one in given.items()})

    return Check(name, severity, asked, lazily, schemas.POLARS)


def _asked(where: str, function: object, *, bound: bool, alone: bool = False) -> tuple[str, ...]:
    """The names that a check asks for; with `alone`, a function of one thing may call it what it likes.

    Raises:
        DefinitionError: an unknown name, or a function whose answer could not be taken.
        ValueError: it does not tell its signature.
    """
    # of a function once: to read its signature takes as long as all else that surrounds a check
    return (_asked_once if inspect.isfunction(function) else _read_names)(where, function, bound, alone)


def _read_names(where: str, function: object, bound: bool, alone: bool) -> tuple[str, ...]:
    if not callable(function):
        raise DefinitionError(f"{where} is {function!r:.100}, which is no check: it cannot be called.")
    inner = inspect.unwrap(function)
    written = (inner, getattr(type(inner), "__call__", None))  # noqa: B004 - of a callable object, its method
    if any(is_such(one) for one in written for is_such in _ANSWER_LATER):
        raise DefinitionError(
            f"{where} is async or yields, so calling it checks nothing. Return True, False or a text."
        )
    parameters = list(inspect.signature(function).parameters.values())
    if bound and parameters and parameters[0].kind not in (parameters[0].VAR_POSITIONAL, parameters[0].VAR_KEYWORD):
        del parameters[0]
    wanted = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    needed = [one for one in wanted if one.default is one.empty]
    if not wanted and parameters:
        raise DefinitionError(
            f"{where} takes anything, so what it asks for cannot be known. Name what it needs, or use functools.wraps "
            f"in its decorator. {_HELP}"
        )
    unknown = [one.name for one in needed if one.name not in NAMES]
    if alone and len(needed) == 1 and len(unknown) == 1 and not suggestion(unknown[0], NAMES):
        return (unknown[0],)
    if unknown:
        raise DefinitionError(
            f"{where} asks for {unknown[0]!r}, which is not known.{suggestion(unknown[0], NAMES)} {_HELP}"
        )
    if fixed := [one.name for one in needed if one.kind is one.POSITIONAL_ONLY]:
        raise DefinitionError(f"{where}: {fixed[0]!r} is given by name. Take the '/' out.")
    return tuple(one.name for one in wanted if one.name in NAMES)


class _Unread(Exception):  # noqa: N818 - an answer that is not to be remembered
    """An annotation that cannot be read, yet."""


@functools.lru_cache(maxsize=4096)
def _wanted_once(function: Callable[..., object], name: str) -> object:
    """The kind of table that the annotation of an argument names: a type, or `LAZY`; None for what it is by itself."""
    annotation = annotation_of(function, name)
    if annotation is ...:
        raise _Unread
    if isinstance(annotation, type) and table_kind(annotation):
        return annotation
    return LAZY if LAZY in kind_names(annotation) else None


_asked_once = functools.lru_cache(maxsize=4096)(_read_names)


def _plain(value: object) -> Any:
    return value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
