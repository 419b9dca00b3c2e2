"""The door of public functions: arguments that cannot be meant are refused with advice, as their annotations say.

    @guarded
    def function(path: str | os.PathLike[str], mode: Literal["copy", "shared"] = "copy") -> None: ...

A call with an unknown, missing or superfluous argument, or with a value of another kind, ends in an `OptionError`
before the function begins. `Annotated[X, Takes(words, fits)]` says what no type can.
"""

from __future__ import annotations

import collections.abc
import difflib
import functools
import inspect
import itertools
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, overload

from superluigi.errors import USERS_CODE, OptionError, TargetMissingError

C = TypeVar("C", bound=Callable[..., Any])
#: What one who gave this value to the argument of this name may have meant.
Hint = Callable[[str, object], str]


@dataclass(frozen=True)
class Takes:
    """In `Annotated`: what an argument takes in words, and, where its type says too little, whether a value fits."""

    words: str
    fits: Callable[[Any], bool] = lambda value: True
    #: How one is written.
    example: str = ""


#: How many there are of something that cannot be none.
Count = Annotated[int, Takes("a whole number from 1", lambda value: value >= 1)]

#: How much or many there may be, 0 too.
NotNegative = Annotated[int, Takes("a whole number from 0", lambda value: value >= 0)]
Bytes = Annotated[int, Takes("a number of bytes, as a whole number from 0", lambda value: value >= 0)]
Finite = Annotated[float, Takes("a number, and not infinity", lambda value: math.isfinite(float(value)))]
Amount = Annotated[float, Takes("a number from 0, and not infinity", lambda value: 0 <= float(value) < math.inf)]

#: How long something may take: of infinity, it may take any time.
Seconds = Annotated[float, Takes("a number of seconds from 0", lambda value: value >= 0)]
Span = Annotated[timedelta, Takes("a timedelta from 0", lambda value: value >= timedelta(0), "timedelta(seconds=60)")]


@dataclass(frozen=True)
class _Kind:
    """What one annotation takes."""

    words: str
    fits: Callable[[Any], bool]
    choices: tuple[object, ...] = ()
    example: str = ""
    #: Types of which every value fits.
    sure: frozenset[type] = frozenset()
    #: The class whose objects fit, if it is one.
    cls: type | None = None
    #: What is inside of a value: where, what, and what is taken there.
    inside: Callable[[Any], Iterable[tuple[str, Any, _Kind]]] = lambda value: ()


_ANY = _Kind("any value", lambda value: True)
#: Ways of calling one function that are remembered; with more of them some are looked at again.
_REMEMBERED = 200


@overload
def guarded(function: C) -> C: ...
@overload
def guarded(
    *, hint: Hint | None = None, known_as: Mapping[str, str] | None = None, itself: Sequence[str] = ()
) -> Callable[[C], C]: ...
def guarded(
    function: Any = None,
    *,
    hint: Hint | None = None,
    known_as: Mapping[str, str] | None = None,
    itself: Sequence[str] = (),
) -> Any:
    """`function`, or the constructor and public methods of a class, with arguments that are looked at.

    `hint` says what may have been meant by a value of another kind, `known_as` what an argument is called elsewhere
    (under "" what else to say of an unknown one). Of the arguments named in `itself` the function knows better.
    """
    if function is None:
        return functools.partial(_guarded, hint=hint, known_as=known_as or {}, itself=itself)
    return _guarded(function, None, {}, ())


def _guarded(function: Any, hint: Hint | None, known_as: Mapping[str, str], itself: Sequence[str]) -> Any:
    if not isinstance(function, type):
        return _behind(_Door(function, hint, known_as, itself), function)
    for name, method in list(vars(function).items()):
        if inspect.isfunction(method) and (name == "__init__" or not name.startswith("_")):
            door = _Door(method, hint, known_as, itself)
            if len(door.names) > 1:
                setattr(function, name, _behind(door, method))
    return function


def _behind(door: _Door, function: Callable[..., Any]) -> Any:
    look, known = door.look, door.known

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        kinds = (*map(type, args), *kwargs, *map(type, kwargs.values())) if kwargs else tuple(map(type, args))
        if kinds not in known:
            look(args, kwargs, kinds)
        try:
            return function(*args, **kwargs)
        except FileNotFoundError as error:
            refuse_removed_folder(error)
            raise

    return call


def refuse_removed_folder(error: FileNotFoundError) -> None:
    """Say it better, if what is not there is the folder that this process works in, which relative paths mean.

    Raises:
        TargetMissingError: it is.
    """
    if error.filename is not None:
        return
    try:
        os.getcwd()
    except FileNotFoundError:
        raise TargetMissingError(
            "The folder in which this process works has been removed: relative paths mean nothing. Change to one that "
            "is there, or give absolute paths."
        ) from error


class _Door:
    """The arguments of one function."""

    def __init__(
        self, function: Callable[..., Any], hint: Hint | None, known_as: Mapping[str, str], itself: Sequence[str]
    ) -> None:
        self._function, self._hint, self._known_as, self._itself = function, hint, known_as, itself
        parameters = list(inspect.signature(function).parameters.values())
        self.names = [one.name for one in parameters]
        self._is_method = self.names[:1] == ["self"]
        positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        self._positional = [one.name for one in positional]
        self._named = frozenset(
            one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        )
        self._more = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), None)
        self._takes_others = any(one.kind is one.VAR_KEYWORD for one in parameters)
        self._required = [
            (self._positional.index(one.name) if one in positional else None, one.name)
            for one in parameters
            if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
        #: Given in place of a value: as good as not given.
        self._defaults = {one.name: one.default for one in parameters}
        #: Types of arguments, and names, which say by themselves that a call is right: most calls are alike.
        self.known: set[tuple[object, ...]] = set()

    def look(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], kinds: tuple[object, ...]) -> None:
        """Refuse arguments that the function does not take."""
        count = len(args)
        if (count > len(self._positional) and self._more is None) or not (kwargs.keys() <= self._named):
            self._refuse_others(count, kwargs)
        for position, name in self._required:
            if (position is None or position >= count) and name not in kwargs:
                missing = [one for at, one in self._required if (at is None or at >= count) and one not in kwargs]
                raise OptionError(f"{self._where} needs {_listed(missing)}: {self._shape()}.")
        given = [*zip(self._positional, args, strict=False), *kwargs.items()]
        given += [(self._more or "", value) for value in args[len(self._positional) :]]
        unsure = [(name, value) for name, value in given if not self._takes_all(name, type(value))]
        if not unsure and len(self.known) < _REMEMBERED:
            self.known.add(kinds)
        wrong = [text for name, value in unsure for text in self._look_at(name, value)]
        if wrong:
            raise OptionError(f"{self._where}: {' '.join(wrong)}")

    def _takes_all(self, name: str, kind: type) -> bool:
        """Whether every value of a type will do."""
        taken = self._kinds.get(name, _ANY)
        return taken is _ANY or kind in taken.sure

    def _look_at(self, name: str, value: Any) -> list[str]:
        """What is wrong with the value of an argument, if anything."""
        kind = self._kinds[name]
        if value is self._defaults[name]:
            return []
        fits = False
        with USERS_CODE:  # a value may answer anything
            fits = bool(kind.fits(value))
        if fits:
            return []
        where, part, inner = _located(name, value, kind)
        hint = (self._hint and self._hint(name, value)) or _meant(where, part, inner)
        if not hint and kind.example:
            hint = f" Write {name}={kind.example}."
        return [f"{where} is {shown(part)}; it takes {inner.words}.{hint}"]

    @functools.cached_property
    def _kinds(self) -> dict[str, _Kind]:
        if self._is_method and self.names[1:] == []:
            return {}
        found = dict.fromkeys(self.names, _ANY)
        for name, written in _annotations(self._function).items():
            if name not in self._itself:
                found[name] = _kind(written)
        return found

    @property
    def _where(self) -> str:
        name = self._function.__qualname__.removesuffix(".__init__")
        return name.rpartition("<locals>.")[2]

    def _shape(self) -> str:
        inner = self.names[1:] if self._is_method else self.names
        return f"{self._where}({', '.join(inner)})"

    def _refuse_others(self, count: int, kwargs: Mapping[str, Any]) -> None:
        known = [name for name in self.names if name in self._named and name != "self"]
        unknown = next((name for name in kwargs if name not in self._named), None)
        if unknown is not None and not self._takes_others:
            near = self._known_as.get(unknown) or next(iter(difflib.get_close_matches(unknown, known, 1, 0.6)), None)
            if near is not None and near not in known:
                raise OptionError(f"{self._where} has no option {unknown!r}. {near}")
            advice = (
                f"Did you mean {near!r}?"
                if near
                else f"It has {', '.join(known) or 'none'}.{self._known_as.get('', '')}"
            )
            raise OptionError(f"{self._where} has no option {unknown!r}. {advice}")
        if count > len(self._positional) and self._more is None:
            most = len(self._positional) - self._is_method
            by_name = [name for name in known if name not in self._positional]
            advice = f" Give {', '.join(by_name)} by name." if by_name else ""
            raise OptionError(
                f"{self._where} takes at most {most} arguments by position, not {count - self._is_method}: "
                f"{self._shape()}.{advice}"
            )


def shown(value: object) -> str:
    """A value and its type for messages, whatever its `repr` does."""
    text = "a value that cannot be shown"
    with USERS_CODE:
        text = f"{value!r:.200}"
    return f"{text} ({type(value).__name__})"


def _located(where: str, value: Any, kind: _Kind) -> tuple[str, Any, _Kind]:
    """The innermost place that makes a value one that does not fit."""
    with USERS_CODE:
        for further, part, taken in kind.inside(value):
            if not taken.fits(part):
                return _located(where + further, part, taken)
    return where, value, kind


def _meant(name: str, value: Any, kind: _Kind) -> str:
    """What may have been meant, as a sentence."""
    if kind.choices:
        words = [str(one) for one in kind.choices] if isinstance(value, str) else []
        near = difflib.get_close_matches(str(value).lower(), words, 1, 0.6) if words else []
        return f" Did you mean {near[0]!r}?" if near else ""
    if kind.cls is not None and isinstance(value, type) and issubclass(value, kind.cls):
        return f" Call it: {value.__name__}(…)."
    if isinstance(value, str):
        if kind.fits(True) and value.strip():
            return f" Write {name}={value.strip().lower() in ('yes', 'true', 'on', '1')}."
        for read in (int, float):
            with USERS_CODE:
                if kind.fits(read(value)):
                    return f" Write {name}={read(value)!r}."
    with USERS_CODE:
        if not isinstance(value, (str, bytes)) and kind.fits([value]):
            return f" Write {name}=[…]."
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:-1])) + (" and " if names[1:] else "") + repr(names[-1])


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of arguments that can be read; a name that only type checkers know can take anything."""
    plain = inspect.unwrap(function)
    names = getattr(plain, "__globals__", {})
    found = {}
    for name, written in getattr(plain, "__annotations__", {}).items():
        with USERS_CODE:
            holder = types.SimpleNamespace(__annotations__={name: written})
            found[name] = typing.get_type_hints(holder, names, include_extras=True)[name]
    return found


def _kind(written: Any) -> _Kind:
    origin, arguments = get_origin(written), get_args(written)
    if origin is Annotated:
        inner = _kind(arguments[0])
        for takes in [one for one in arguments[1:] if isinstance(one, Takes)]:
            inner = _Kind(takes.words, _both(inner.fits, takes.fits), inner.choices, takes.example, inside=inner.inside)
        return inner
    if origin in (Union, types.UnionType):
        return _one_of([_kind(one) for one in arguments])
    if origin is Literal:
        words = ", ".join(map(repr, arguments[:-1])) + (" or " if arguments[1:] else "") + repr(arguments[-1])
        return _Kind(
            words, lambda value: any(type(one) is type(value) and one == value for one in arguments), arguments
        )
    if written in (None, type(None)):
        return _Kind("None", lambda value: value is None, sure=frozenset([type(None)]))
    if origin is None and (simple := _SIMPLE.get(written)) is not None:
        return simple
    if origin is type or written is type:
        base = arguments[0] if arguments and isinstance(arguments[0], type) else object
        words = "a class" if base is object else f"a class of {base.__name__}"
        return _Kind(words, lambda value: isinstance(value, type) and issubclass(value, base))
    return _of_class(origin or written, arguments)


def _of_class(cls: Any, arguments: tuple[Any, ...]) -> _Kind:
    if cls is os.PathLike:
        return _Kind("a Path", lambda value: isinstance(value, os.PathLike))
    if cls is collections.abc.Callable:
        return _Kind("a function", callable)
    if not isinstance(cls, type) or cls is object or getattr(cls, "_is_protocol", False):
        return _ANY
    inner = [_kind(one) for one in arguments if one is not ...]
    if issubclass(cls, Mapping):
        return _mapping_of(cls, inner)
    if cls in _COLLECTIONS:
        return _collection_of(cls, inner[0] if len(inner) == 1 else _ANY)
    return _Kind(f"a {cls.__name__}", lambda value: isinstance(value, cls), cls=cls)


def _both(first: Callable[[Any], bool], second: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: first(value) and second(value)


def _one_of(kinds: Sequence[_Kind]) -> _Kind:
    if _ANY in kinds:
        return _ANY
    words = " or ".join(dict.fromkeys(one.words for one in kinds))
    return _Kind(
        words,
        lambda value: any(one.fits(value) for one in kinds),
        tuple(choice for one in kinds for choice in one.choices),
        sure=frozenset().union(*[one.sure for one in kinds]),
        cls=next((one.cls for one in kinds if one.cls is not None), None),
        inside=lambda value: itertools.chain.from_iterable(one.inside(value) for one in kinds),
    )


def _mapping_of(cls: Any, arguments: Sequence[_Kind]) -> _Kind:
    key, item = arguments if len(arguments) == 2 else (_ANY, _ANY)

    def inside(value: Any) -> Iterable[tuple[str, Any, _Kind]]:
        if isinstance(value, cls):
            yield from ((f"[{name!r}]", one, item) for name, one in value.items())
            yield from ((": a key of it", name, key) for name in value)

    return _container(cls, "a dict", inside)


def _collection_of(cls: Any, item: _Kind) -> _Kind:
    def inside(value: Any) -> Iterable[tuple[str, Any, _Kind]]:
        if isinstance(value, (list, tuple)):  # an iterator gives its items once
            yield from ((f"[{position}]", one, item) for position, one in enumerate(value))

    items = "" if item is _ANY else f", each of them {item.words}"
    return _container(cls, f"{_COLLECTIONS[cls]}{items}", inside)


def _container(cls: Any, words: str, inside: Callable[[Any], Iterable[tuple[str, Any, _Kind]]]) -> _Kind:
    def fits(value: Any) -> bool:
        is_one = isinstance(value, cls) and not isinstance(value, (str, bytes))
        return is_one and all(kind.fits(part) for _, part, kind in inside(value))

    return _Kind(words, fits, inside=inside)


def can_be_named(text: str | os.PathLike[str]) -> bool:
    """Whether the system can have a file of this name: of half a character or a zero byte it cannot."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def is_flag(value: Any) -> bool:
    """Whether a value says yes or no: also 0 and 1, and numpy's, which are no bools."""
    return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)) or _is_numpys_flag(value)


def _is_numpys_flag(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in ("bool_", "bool")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, NumPy's too; a flag is none."""
    return hasattr(type(value), "__index__") and not isinstance(value, bool) and not _is_numpys_flag(value)


def _is_number(value: Any) -> bool:
    """Whether a value is one; nan, which is neither more nor less than any limit, is none."""
    return is_whole(value) or (
        hasattr(type(value), "__float__") and not isinstance(value, bool) and not math.isnan(float(value))
    )


_SIMPLE: dict[Any, _Kind] = {
    Any: _ANY,
    object: _ANY,
    bool: _Kind("True or False", is_flag, sure=frozenset([bool])),
    int: _Kind("a whole number", is_whole, sure=frozenset([int])),
    float: _Kind("a number", _is_number, sure=frozenset([int])),
    str: _Kind("a text", lambda value: isinstance(value, str), sure=frozenset([str])),
    bytes: _Kind("bytes", lambda value: isinstance(value, bytes)),
}
_COLLECTIONS: dict[Any, str] = {
    list: "a list", tuple: "a tuple", set: "a set", frozenset: "a frozenset", Sequence: "a list or tuple",
    Iterable: "a list", collections.abc.Collection: "a list",
}  # fmt: skip
