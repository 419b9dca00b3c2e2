"""Options of `run_task`: misspelt ones or those of another kind are refused with what to write before anything runs."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import warnings
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import luigi
from luigi.task_register import Register

from superluigi import config
from superluigi.errors import OptionError
from superluigi.luigi_compat.tasks import registered

P = ParamSpec("P")
R = TypeVar("R")

#: What these are called in Luigi and its like.
_KNOWN_AS = {
    "workers": "num_workers", "n_workers": "num_workers", "n_jobs": "num_workers", "scheduler": "central_scheduler",
    "cfg": "config_file", "verbose": "quiet", "overwrite": "force", "rerun": "force", "db": "queue",
}  # fmt: skip
_SEVERAL = "One run has one root: of several tasks write run_task(collect([…])), or compute([…]) for their values."


def advised(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which answers an option that it does not have with the one that was meant."""
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        unknown = next((name for name in kwargs if name not in names), None)
        if unknown is not None:
            raise OptionError(f"{function.__name__} has no option {unknown!r}.{_meant(unknown, names)}")
        return function(*args, **kwargs)

    return call


def _meant(unknown: str, names: list[str]) -> str:
    if unknown == "local_scheduler":
        return " Leave it out: the scheduler is local unless central_scheduler=True."
    near = [_KNOWN_AS[unknown]] if unknown in _KNOWN_AS else difflib.get_close_matches(unknown, names, 1, 0.6)
    return (
        f" Did you mean {near[0]!r}?" if near else f" It has {', '.join(names[1:])}; parameters go to the task itself."
    )


def refuse_other_kinds(
    *, config: object, config_file: object, store: object, queue: object, progress: object, **flags: object
) -> None:
    """Refuse values of another kind than the option takes.

    Raises:
        OptionError: says what came, and what to write.
    """
    for name, value in (("config", config), ("config_file", config_file)):
        if isinstance(value, luigi.Task):
            raise OptionError(f"{name} is {value}, a task. {_SEVERAL}")
    if config is not None and not isinstance(config, Mapping):
        hint = f" Write config_file={str(config)!r}." if isinstance(config, (str, os.PathLike)) else ""
        raise OptionError(f"config is {_shown(config)}; it takes {{section: {{key: value}}}}.{hint}")
    if config_file is not None and not isinstance(config_file, (str, os.PathLike)):
        hint = " Write config=…." if isinstance(config_file, Mapping) else ""
        raise OptionError(f"config_file is {_shown(config_file)}; it takes the path of a file.{hint}")
    if store is not None and (not isinstance(store, (str, os.PathLike)) or not os.fspath(store)):
        raise OptionError(f"store is {_shown(store)}; it takes a folder or 's3://bucket/prefix'.")
    if queue is not None and not isinstance(queue, str) and not callable(getattr(queue, "submit", None)):
        raise OptionError(f"queue is {_shown(queue)}; it takes the name or address of a queue, or a Queue.")
    for name, value in {**flags, "progress": False if progress is None else progress}.items():
        if not _is_flag(value):
            raise OptionError(f"{name} is {_shown(value)}; it takes True or False.{_hint(name, value)}")


def as_text(section: str, key: str, value: object) -> object:
    """A value of a run's configuration as the parameter that it is for writes it; what is for none stays as it is."""
    kind = None if isinstance(value, str) else registered(section)
    parameters = dict(kind.get_params()) if isinstance(kind, type) and issubclass(kind, luigi.Task) else {}
    parameter = parameters.get(key) or parameters.get(key.replace("-", "_"))
    if parameter is None:
        return value
    try:
        text: str = parameter.serialize(parameter.normalize(value))
    except Exception:  # noqa: BLE001 who reads the text says what is wrong with it, by name
        return value
    return value if text == str(value) else text  # of a text parameter, say, which may be given JSON


def warn_of_sections(sections: Mapping[str, object]) -> None:
    """Warn of sections of a run's configuration that no task has, but one of almost the same name.

    Sections of programs and libraries are in lower case and are not meant: a task may well be called as one of them.
    """
    known = Register.task_names()
    for section in sections:
        is_of_task = section.rpartition(".")[2][:1].isupper() and section not in known
        near = difflib.get_close_matches(section, known, 1, 0.75) if is_of_task else []
        if near:
            warnings.warn(
                f"The configuration of this run has a section [{section}], which no task reads. "
                f"Did you mean [{near[0]}]?",
                MisspeltSectionWarning,
                stacklevel=5,
            )


class MisspeltSectionWarning(UserWarning):
    """A section of a configuration is called almost as a task is."""


def warn_of_variables() -> None:
    """Warn of variables of the environment that no setting reads, but one of almost the same name."""
    known = {setting.variable.removeprefix(_PREFIX): setting.variable for setting in config.SETTINGS.values()}
    for name in [name for name in os.environ if name.startswith(_PREFIX)]:
        word = name.removeprefix(_PREFIX)
        near = difflib.get_close_matches(word, known, 1, 0.85) if word not in known else []
        if near:
            warnings.warn(
                f"The environment has {name}, which no setting reads. Did you mean {known[near[0]]}?",
                MisspeltVariableWarning,
                stacklevel=4,
            )


_PREFIX = "SUPERLUIGI_"


class MisspeltVariableWarning(UserWarning):
    """A variable of the environment is called almost as that of a setting."""


def _is_flag(value: object) -> bool:
    return isinstance(value, (bool, int)) or type(value).__name__ in ("bool_", "bool")  # numpy's are no bools


def _hint(name: str, value: object) -> str:
    if name == "central_scheduler" and isinstance(value, str) and "://" in value:
        return " Write central_scheduler=True, config={'core': {'default_scheduler_url': " + repr(value) + "}}."
    if isinstance(value, str):
        word = value.strip().lower()
        return f" Write {name}={word in ('yes', 'true', 'on', '1')}." if word else ""
    kind = value if isinstance(value, type) else type(value)
    if name.startswith("force") and issubclass(kind, luigi.Task):
        return f" To make it again with all that leads from it to the root: force_upstream_to_task_cls={kind.__name__}."
    return ""


def _shown(value: object) -> str:
    return f"{value!r:.200} ({type(value).__name__})"
