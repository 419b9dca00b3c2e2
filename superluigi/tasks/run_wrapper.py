"""Which `run` a class has, what it may ask for, and how Luigi's call of it becomes an attempt."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

import luigi

from superluigi.errors import DefinitionError, RunSignatureError
from superluigi.parameters.luigi_task import LuigiTask
from superluigi.tasks.checking import admission
from superluigi.tasks.runtime import mixin


def wrap(cls: type, offered: frozenset[str]) -> None:
    """Make `cls.run`, its own or one that a base or mixin wrote, the entry of an attempt.

    Raises:
        RunSignatureError: that `run` asks for a name that is not offered.
    """
    if not offered:
        own = cls.__dict__.get("run")
        if callable(own):
            check_signature(cls.__name__, own, offered, cls)
            type.__setattr__(cls, "run", _plain_entry(own))
        return
    written = _written(cls)
    found = (
        wrapped(cls.__name__, written, offered, cls) if callable(written) and written is not LuigiTask.run else written
    )
    if found is not getattr(cls, "run", None):
        type.__setattr__(cls, "run", found)


def _written(cls: type) -> object:
    """The first `run` along the bases; that of Luigi's base class, which does nothing, only for wrappers."""
    for base in cls.__mro__:
        if base is LuigiTask:  # its `run` does nothing; a mix-in that stands behind it does
            continue
        if vars(base).get("run", _no_run) is not _no_run:
            return vars(base)["run"]
    return LuigiTask.run if issubclass(cls, luigi.WrapperTask) else _no_run


def wrapped(
    class_name: str, user_run: Callable[..., Any], offered: frozenset[str], owner: type | None = None
) -> Callable[..., Any]:
    """`run` as Luigi calls it, without arguments, begins an attempt; a call from within one is ordinary Python."""
    if user_run is _no_run or getattr(user_run, "begins_attempt", False):
        return user_run
    check_signature(class_name, user_run, offered, owner)

    @functools.wraps(user_run)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        attempt = self.current_attempt()
        if attempt is not None:  # super().run(...): names that were not given are filled in
            return user_run(self, *args, **attempt.bind(user_run, args, kwargs))
        if args or kwargs:
            return user_run(self, *args, **kwargs)
        begin = functools.partial(self._superluigi_attempt, user_run)
        return mixin.run_in_context(self, functools.partial(admission.admitting, self, begin))

    run.begins_attempt = True  # type: ignore[attr-defined]
    return run


def _plain_entry(user_run: Callable[..., object]) -> Callable[..., object]:
    """`run` of a task that stores its output itself: as written, with its working life around it."""
    if user_run is _no_run or getattr(user_run, "begins_attempt", False):
        return user_run

    @functools.wraps(user_run)
    def run(self: Any, *args: object, **kwargs: object) -> Any:
        begin = functools.partial(user_run, self, *args, **kwargs)
        return mixin.run_in_context(self, functools.partial(admission.admitting, self, begin))

    run.begins_attempt = True  # type: ignore[attr-defined]
    return run


def refuse_async(cls: type) -> None:
    """Refuse methods that Luigi calls without awaiting what they return.

    Raises:
        RunSignatureError: one is `async def`.
    """
    for name in (
        "run",
        "requires",
        "output",
        "complete",
        "input",
        "on_success",
        "on_failure",
        "save_output",
        "load_output",
    ):
        _refuse_async(cls.__name__, name, getattr(cls, name, None))


def _refuse_async(class_name: str, name: str, method: object) -> None:
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise RunSignatureError(
            f"{class_name}.{name} is `async def`, so calling it runs nothing, and is never awaited. Write `def {name}` "
            "and call asyncio.run(…) in it."
        )


def check_signature(
    class_name: str, user_run: Callable[..., object], offered: frozenset[str], owner: type | None = None
) -> None:
    """Refuse a `run` that is asynchronous, no method, or asks for names which its class does not offer."""
    _refuse_async(class_name, "run", user_run)
    parameters = list(inspect.signature(user_run).parameters.values())
    first, names = parameters[:1], ", ".join(["self", *(one.name for one in parameters if one.name in offered)])
    if isinstance(user_run, (staticmethod, classmethod)):
        kind = type(user_run).__name__
        raise RunSignatureError(
            f"{class_name}.run is a @{kind}, but it is the work of one task. Write def run({names})."
        )
    if not first or first[0].kind is inspect.Parameter.KEYWORD_ONLY or first[0].name in offered:
        raise RunSignatureError(f"{class_name}.run does not take self, the task. Write def run({names}).")
    parameters = parameters[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in offered and parameter.kind is not parameter.POSITIONAL_ONLY:
            continue
        if parameter.default is not parameter.empty:
            continue  # an ordinary keyword, for calls by super().run(...)
        known = f"It may take any of: {', '.join(sorted(offered))}." if offered else "It takes nothing but self."
        if parameter.kind is parameter.POSITIONAL_ONLY:
            known += " Names are given as keywords: take the '/' out."
        remedy = "" if offered else " Derive from AtomicTaskWithMetadata to get paths and metadata."
        remedy = _meant(parameter.name, offered, owner) + remedy
        raise RunSignatureError(f"{class_name}.run asks for {parameter.name!r}, which is not known. {known}{remedy}")


def _meant(name: str, offered: Collection[str], owner: type | None) -> str:
    """What was probably meant by a name that is not offered."""
    if owner is not None and isinstance(inspect.getattr_static(owner, name, None), luigi.Parameter):
        return f" A parameter is read from the task: self.{name}."
    begins = [one for one in sorted(offered) if name and one.startswith(name)]
    near = begins or difflib.get_close_matches(name, sorted(offered), 1, 0.7)
    return f" Did you mean {near[0]}?" if near else ""


def _no_run(self: Any) -> None:
    """Stands where Luigi would silently do nothing."""
    raise DefinitionError(
        f"{self.task_family} has no run() method, so nothing makes its output. Write one that takes any of: "
        f"{', '.join(sorted(self.run_names))}; or derive from ExternalTask if others make the output."
    )
