"""Tags: names and values on a task that are no part of its identity, for finding and plotting its records."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import luigi

from superluigi.arguments import guarded
from superluigi.errors import ParameterError


class Tagged:
    """A parameter's value that becomes a tag of the task as well."""

    def __init__(self, value: object) -> None:
        self.value = value


@guarded
def tag(value: object) -> Any:
    """Mark a parameter's value: `Learn(lr=tag(0.1))` is `Learn(lr=0.1, tags={"lr": 0.1})`."""
    return value if isinstance(value, Tagged) else Tagged(value)


def pop_tags(
    cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """The plain arguments of a constructor call, and the tags that were among them.

    `tags=` stays an argument of classes that have a parameter of that name.
    """
    marks: dict[str, Any] = {}
    if "tags" in kwargs and "tags" not in dict(cls.get_params()):
        marks.update(_checked(kwargs.pop("tags")))
    if args and any(isinstance(value, Tagged) for value in args):
        names = [name for name, parameter in cls.get_params() if parameter.positional]
        marks.update({n: v.value for n, v in zip(names, args, strict=False) if isinstance(v, Tagged)})
        args = tuple(_plain(value) for value in args)
    for name, value in kwargs.items():
        if isinstance(value, Tagged):
            marks[name] = kwargs[name] = value.value
    return args, kwargs, marks


def _plain(value: object) -> object:
    return value.value if isinstance(value, Tagged) else value


def _checked(tags: object) -> dict[str, object]:
    if tags is None:
        return {}
    if isinstance(tags, Mapping) and all(isinstance(name, str) for name in tags):
        return dict(tags)
    raise ParameterError(f"tags={tags!r} must be a dict of names and values.")


def tagged(task: luigi.Task, marks: Mapping[str, object]) -> object:
    """The same task, as another object that has these tags: the one in Luigi's cache stays without."""
    if not marks:
        return task
    other = copy.copy(task)
    other.__dict__["_superluigi_tags"] = {**task.__dict__.get("_superluigi_tags", {}), **marks}
    return other


def tags_of(task: luigi.Task) -> dict[str, object]:
    """The tags of any task; a parameter that is called so is none."""
    found: dict[str, object] = task.__dict__.get("_superluigi_tags", {})
    return found


def path_of(tags: Mapping[str, object]) -> PurePath:
    """`lr=0.1/optimizer=adam`: one folder a tag, in the order in which they were set, for plots and the like."""
    return PurePath(*(re.sub(r"[/\\\0]", "_", f"{name}={value}") for name, value in tags.items()))


def parse(texts: list[str]) -> dict[str, str]:
    """`["lr=.1", "baseline"]` from a command line: names with the value wanted, "" for any.

    Raises:
        ParameterError: a tag without a name.
    """
    pairs = [text.partition("=") for text in texts]
    if any(not name for name, _, _ in pairs):
        raise ParameterError("--tag needs a name: --tag lr=0.1, or --tag lr for any value.")
    return {name: value for name, _, value in pairs}


def match(tags: object, wanted: Mapping[str, str]) -> bool:
    """Whether `tags` (of a task, or `record["run"]["tags"]`) has all that is wanted; `.1` is 0.1."""
    known = tags if isinstance(tags, Mapping) else {}  # a record may say anything
    return all(name in known and (text == "" or _same(known[name], text)) for name, text in wanted.items())


def _same(value: Any, text: str) -> bool:
    if str(value) == text or (isinstance(value, bool) and str(value).lower() == text.lower()):
        return True
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return False
