"""What may be a check: a method under `@check`, and in the attribute `checks` a schema, a model or a callable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal, TypeVar, cast, overload

from superluigi.checks import schemas
from superluigi.config import suggestion
from superluigi.errors import DefinitionError
from superluigi.formats.suffix_inference import table_kind
from superluigi.parameters.annotations import annotation_of

Severity = Literal["error", "warn"]
SEVERITIES = ("error", "warn")
#: What a check may ask for by name.
NAMES = ("output_path", "value", "values", "metadata", "previous", "inputs")
#: The classes of external data that have checks.
external_classes: set[type] = set()
_MARK = "_superluigi_check"
#: Classes of these packages have none.
_LIBRARIES = ("superluigi.", "luigi.", "builtins.", "typing.")
_HELP = f"A check may ask for any of: {', '.join(NAMES)}."
Function = TypeVar("Function")


@dataclass(frozen=True)
class Check:
    """One check of one task, ready to be called with what it asks for, by name."""

    name: str
    severity: str
    names: tuple[str, ...]
    call: Callable[..., Any]
    #: The type in which it wants tables; None for what they are by themselves.
    wants: Any = None


@dataclass(frozen=True)
class Marked:
    """A schema, a model or what else takes no mark, with its severity."""

    item: Any
    severity: str


@overload
def check(function: Function, *, severity: Severity = "error") -> Function: ...
@overload
def check(*, severity: Severity = "error") -> Callable[[Function], Function]: ...
def check(function: Any = None, *, severity: str = "error") -> Any:
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

    def decorate(written: Any) -> Any:
        plain = written.__func__ if isinstance(written, (staticmethod, classmethod)) else written
        if inspect.isfunction(plain):
            setattr(plain, _MARK, severity)
            return written
        if schemas.known(written) is None and not callable(written):
            raise DefinitionError(f"check(…) needs a function, a schema or a model, not {written!r:.100}.")
        return Marked(written, severity)

    return decorate if function is None else decorate(function)


def has_checks(cls: type) -> bool:
    """Whether tasks of this class, if it is ours, have checks; as cheap as two attributes."""
    methods = getattr(cls, "_superluigi_checks", None)
    return methods is not None and (bool(methods) or bool(getattr(cls, "checks", ())))


def method_checks(cls: type) -> dict[str, str]:
    """Name -> severity of the methods that are checks, those of bases first.

    A method that overrides a check is one as well; None in its place takes it away.

    Raises:
        DefinitionError: one that cannot be called as checks are.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if f"{base.__module__}.".startswith(_LIBRARIES):
            continue
        for name, value in vars(base).items():
            plain = _plain(value)
            if isinstance(plain, FunctionType) and (mark := getattr(plain, _MARK, None)) is not None:
                found[name] = mark
    for name in list(found):
        value = inspect.getattr_static(cls, name)
        if value is None:
            del found[name]
            continue
        found[name] = getattr(_plain(value), _MARK, found[name])
        _asked(f"{cls.__name__}.{name}", _plain(value), bound=not isinstance(value, staticmethod))
    return found


def refuse_wrong(cls: type) -> None:
    """Refuse checks that could not be called, when the class is written.

    Raises:
        DefinitionError: says which and what could stand there.
    """
    type.__setattr__(cls, "_superluigi_checks", method_checks(cls))
    items = inspect.getattr_static(cls, "checks", ())
    if isinstance(items, (list, tuple)):
        list(_listed(cls.__name__, items))
    if not has_checks(cls):
        return
    if getattr(cls, "run", None) is None:
        external_classes.add(cls)
    elif "output_path" not in getattr(cls, "run_names", ()):
        raise DefinitionError(
            f"{cls.__name__} has checks, but writes its output where others see it before anybody could check. Derive "
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
        written = inspect.getattr_static(cls, name)
        asked = _asked(f"{cls.__name__}.{name}", _plain(written), bound=not isinstance(written, staticmethod))
        found.append(Check(name, severity, asked, getattr(task, name), _table(_plain(written))))
    return list(_named_apart(found))


def _named_apart(checks: Sequence[Check]) -> Iterator[Check]:
    taken: dict[str, int] = {}
    for one in checks:
        taken[one.name] = count = taken.get(one.name, 0) + 1
        yield one if count == 1 else Check(f"{one.name}-{count}", one.severity, one.names, one.call, one.wants)


def _listed(where: str, items: Sequence[Any]) -> Iterator[Check]:
    for position, item in enumerate(items):
        yield _from_item(f"{where}.checks[{position}]", item)


def _from_item(where: str, item: Any, severity: str | None = None) -> Check:
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
    name = str(getattr(plain, "__name__", None) or type(plain).__name__)
    try:
        asked = _asked(where, plain, bound=False, alone=True)
    except ValueError:  # not written in Python: it takes one thing
        return Check(name, severity, ("value",), lambda value: plain(value))
    if len(asked) == 1 and asked[0] not in NAMES:
        return Check(name, severity, ("value",), lambda value: plain(value), _table(plain, asked[0]))
    return Check(name, severity, asked, plain, _table(plain))


def _asked(where: str, function: Any, *, bound: bool, alone: bool = False) -> tuple[str, ...]:
    """The names that a check asks for; with `alone`, a function of one thing may call it what it likes.

    Raises:
        DefinitionError: an unknown name, or a function whose answer could not be taken.
        ValueError: it does not tell its signature.
    """
    if not callable(function):
        raise DefinitionError(f"{where} is {function!r:.100}, which is no check: it cannot be called.")
    inner = inspect.unwrap(function)
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        raise DefinitionError(
            f"{where} is async or yields, so calling it checks nothing. Return True, False or a text."
        )
    parameters = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
    wanted = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    needed = [one for one in wanted if one.default is one.empty]
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


def _plain(value: Any) -> Any:
    return value.__func__ if isinstance(value, (staticmethod, classmethod)) else value


def _table(function: Any, name: str = "value") -> Any:
    """The table type that a function's annotation names."""
    if not inspect.isfunction(function):
        return None
    annotation = annotation_of(function, name)
    return annotation if isinstance(annotation, type) and table_kind(annotation) else None
