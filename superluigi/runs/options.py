"""Options of `run_task`: misspelt ones or those of another kind are refused with what to write before anything runs."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated

import luigi
from luigi.task_register import Register

from superluigi import config
from superluigi.arguments import NotNegative, Takes
from superluigi.errors import ConfigError
from superluigi.luigi_compat import configuration
from superluigi.luigi_compat.tasks import registered

#: What these are called in Luigi and its like; or what to do instead.
KNOWN_AS = {
    "workers": "num_workers", "n_workers": "num_workers", "n_jobs": "num_workers", "scheduler": "central_scheduler",
    "cfg": "config_file", "verbose": "quiet", "overwrite": "force", "rerun": "force", "db": "queue",
    "": " Parameters go to the task itself.",
    "local_scheduler": "Leave it out: the scheduler is local unless central_scheduler=True.",
}  # fmt: skip
_SEVERAL = "One run has one root: of several tasks write run_task(collect([…])), or compute([…]) for their values."

ConfigOption = Annotated[Mapping[str, Mapping[str, object]] | None, Takes("{section: {key: value}}")]
ResourcesOption = Annotated[
    Mapping[str, NotNegative] | None, Takes("a dict of names and whole numbers", example="{'gpu': 1}")
]
RateLimitsOption = Annotated[
    Mapping[str, int | str] | None,
    Takes("a dict of names and limits", example="{'gpu': 1, 'TrainTask': 2, 'api': '10/minute'}"),
]
StoreOption = Annotated[
    str | os.PathLike[str] | None,
    Takes("a folder or 's3://bucket/prefix'", lambda given: given is None or bool(os.fspath(given))),
]


def _names_tasks(given: object) -> bool:
    kinds = (str, luigi.Task, Iterator)
    items = given if isinstance(given, (list, tuple, set, frozenset)) else [given]
    return all(isinstance(one, kinds) or (isinstance(one, type) and issubclass(one, luigi.Task)) for one in items)


ForcedOption = Annotated[
    object,
    Takes("a task, a task class, the name of one, or a list of these", lambda one: one is None or _names_tasks(one)),
]
QueueOption = Annotated[
    object,
    Takes(
        "the name or address of a queue, or a Queue",
        lambda given: given is None or isinstance(given, str) or callable(getattr(given, "submit", None)),
    ),
]


def as_text(section: str, key: str, value: object) -> object:
    """A value of a run's configuration as the parameter that it is for writes it; what is for none stays as it is."""
    kind = None if isinstance(value, str) else registered(section)
    parameters = dict(kind.get_params()) if isinstance(kind, type) and issubclass(kind, luigi.Task) else {}
    parameter = parameters.get(key) or parameters.get(key.replace("-", "_"))
    if parameter is None:
        return value
    try:
        text: str = parameter.serialize(parameter.normalize(value))
    except Exception as error:  # who reads the text says what is wrong with it, by name
        if value is None:  # a text that would be read
            advice = "Leave it out, for what it is without."
            raise ConfigError(f"config[{section!r}][{key!r}] is None, which {key!r} does not take. {advice}") from error
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


_OF_ITS_COMMAND = {
    "workers": ("1", "Write num_workers={0} (--workers {0})."),
    "assistant": ("false", "A run makes its own task and what that requires: let `luigi --assistant` help."),
}


def warn_of_core(num_workers: int) -> None:
    """Warn of options of Luigi's configuration that only Luigi's own command reads, and that one may count on."""
    for name, (default, instead) in _OF_ITS_COMMAND.items():
        value = str(configuration.value("core", name, default)).strip()
        if value.lower() != default and (name != "workers" or num_workers == 1):
            said = f"[core] {name} = {value} of Luigi's configuration is for Luigi's own command."
            warnings.warn(f"{said} {instead.format(value)}", UserWarning, stacklevel=4)


def hint(name: str, value: object) -> str:
    """What may have been meant by `value` for the option `name`, as a sentence."""
    if isinstance(value, luigi.Task) and name in ("config", "config_file"):
        return f" {_SEVERAL}"
    if name == "config" and isinstance(value, (str, os.PathLike)):
        return f" Write config_file={str(value)!r}."
    if name == "config_file" and isinstance(value, Mapping):
        return " Write config=…."
    if name == "central_scheduler" and isinstance(value, str) and "://" in value:
        return " Write central_scheduler=True, config={'core': {'scheduler_url': " + repr(value) + "}}."
    kind = value if isinstance(value, type) else type(value)
    if name.startswith("force") and issubclass(kind, luigi.Task):
        return f" To make it again with all that leads from it to the root: force_upstream_to_task_cls={kind.__name__}."
    return ""
