"""The names that a task class gives meaning, in one table: all others are the user's.

A class that takes one of them with another shape is refused when it is written: a method that cannot be called as
it will be, a setting of another type, a parameter where there is none. What we keep on task objects and classes
for ourselves begins with `_superluigi_`, so that no name of a user's is overwritten.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import luigi

from superluigi import graph
from superluigi.errors import DefinitionError
from superluigi.luigi_compat.parameters import default_of

#: Where the table is shown.
PAGE = "see Reserved names in the reference of tasks"


@dataclass(frozen=True)
class Name:
    """One reserved name: what it means, and what may stand there."""

    meaning: str
    #: What may stand there, in words.
    shape: str
    fits: Callable[[Any], bool]
    #: Kinds of parameters that may be called so.
    parameters: tuple[type, ...] = ()
    #: A property may compute it.
    computed: bool = True

    def takes(self, value: object) -> bool:
        """Whether `value`, from a class body, may have this name."""
        if isinstance(value, luigi.Parameter):
            return isinstance(value, self.parameters) or (type(value) is luigi.Parameter and self._fits_default(value))
        if isinstance(value, (property, functools.cached_property)):
            return self.computed
        return self.fits(value)

    def _fits_default(self, parameter: object) -> bool:
        return luigi.Parameter in self.parameters or (bool(self.parameters) and self.fits(default_of(parameter)))


def _method(meaning: str, least: int = 0, most: int | None = None, *keywords: str) -> Name:
    """A method that is called with `least` to `most` arguments, and with these by name."""
    calls: list[tuple[int, tuple[str, ...]]] = [(least, ())]
    if most is not None and most > least:
        calls.append((most, ()))
    if keywords:
        calls.append((least, keywords))
    shown = {0: "no argument", 1: "one argument"}.get(least, f"{least} arguments")
    shape = f"a method that can be called with {shown}"
    if most is not None and most > least:
        shape += f", or {most}"
    if keywords:
        shape += f", and with {', '.join(keywords)} by name"
    return Name(meaning, shape, lambda value: all(_can_be_called(value, *call) for call in calls), computed=False)


def _can_be_called(value: object, count: int, keywords: Iterable[str]) -> bool:
    bound = 1
    if isinstance(value, staticmethod):
        bound = 0
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    if isinstance(value, (functools.partialmethod, functools.singledispatchmethod)):
        return True
    if not callable(value):
        return False
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # not written in Python
        return True
    try:
        signature.bind(*[None] * (count + bound), **dict.fromkeys(keywords))
    except TypeError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _or_none(fits: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or fits(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_said_or_computed(value: object) -> bool:
    return value is None or isinstance(value, (str, property))


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_names(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(map(_is_text, value))


def _is_command(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_text, value))
    return isinstance(value, str) or (_can_be_called(value, 0, ()) and not isinstance(value, type))


def _is_environment(value: object) -> bool:
    return (isinstance(value, Mapping) and all(map(_is_text, value))) or hasattr(value, "as_option")


def _is_executor(value: object) -> bool:
    return isinstance(value, str) or (callable(getattr(value, "submit", None)) and not isinstance(value, type))


def _is_annotation(value: object) -> bool:
    return value in (None, ..., Any) or isinstance(value, type) or hasattr(value, "__origin__")


def _never(value: object) -> bool:
    return False


def _any(value: object) -> bool:
    return not inspect.isroutine(value)


_NUMBERS = (luigi.IntParameter, luigi.FloatParameter, luigi.NumericalParameter, luigi.OptionalIntParameter)
_TEXTS = (luigi.StrParameter, luigi.OptionalStrParameter, luigi.OptionalParameter, luigi.Parameter)
_NUMBER = Name("", "a number", _or_none(_is_number), _NUMBERS)
_FLAG = Name("", "True or False", _is_flag, (luigi.BoolParameter,))


def _setting(meaning: str, like: Name) -> Name:
    return Name(meaning, like.shape, like.fits, like.parameters, like.computed)


def _given(meaning: str, *, computed: bool = False) -> Name:
    shape = "nothing of yours" if not computed else "nothing but a property"
    return Name(meaning, shape, _never, computed=computed)


#: Methods that you write, and that are called.
HOOKS: dict[str, Name] = {
    "run": Name("the work", "a method", lambda value: value is None or callable(value), computed=False),
    "requires": _method("what the task requires"),
    "output": _method("the targets that it makes"),
    "complete": _method("whether it is done"),
    "validate": _method("checks parameters together when the task is made; raises ValueError"),
    "save_output": _method("writes the value that `run` returned: `save_output(self, value, path)`", 2),
    "load_output": _method("reads what `save_output` wrote: `load_output(self, path)`", 1),
    "on_success": _method("called after a run that went well (Luigi)"),
    "on_failure": _method("called with the exception of a run that did not (Luigi)", 1),
    "process_resources": _method("the resources that one run takes (Luigi)"),
    "bulk_complete": _method("which of many parameters are done, for range tools (Luigi)", 1),
}
#: Attributes that you set.
SETTINGS: dict[str, Name] = {
    "checks": Name(
        "what its output must pass before it is published",
        "a list or tuple of schemas, models and functions",
        lambda value: isinstance(value, (list, tuple)),
    ),
    "retry_on_failed_check": _setting("a failed check counts as a failure that may be tried again", _FLAG),
    "suffix": Name(
        "the suffix of the default home",
        "a suffix with its dot, such as '.csv', or ''",
        _or_none(lambda value: _is_text(value) and (value == "" or (value[0] == "." and "/" not in value))),
    ),
    "read_mode": Name("how inputs are given", "'copy' or 'shared'", lambda value: value in ("copy", "shared")),
    "executor": Name(
        "where this class runs", "the name of an executor, or an executor", _or_none(_is_executor), computed=False
    ),
    "environment": Name(
        "variables for the task and its children", "a dict or an Environment", _or_none(_is_environment)
    ),
    "command_prefix": Name(
        "the command before the attempt's own",
        "text, a list of words, or a method that returns one",
        _or_none(_is_command),
    ),
    "prefix_python": Name("the Python behind that prefix", "text", _or_none(_is_text)),
    "keep_task_dir": _setting("keep the task's folder between attempts", _FLAG),
    "chdir": _setting("run in the task's own folder", _FLAG),
    "exclusive": Name(
        "what to do while another process makes the same",
        "'wait', 'fail', 'off' or None",
        lambda value: value in (None, "wait", "fail", "off"),
        (luigi.Parameter,),
    ),
    "resumable": Name("`run` saves checkpoints", "True or False", _is_flag),
    "max_attempts": Name("attempts of a task that asks for more", "a number or None", _or_none(_is_number)),
    "hash_seed": Name("another value makes another task", "any value", _any, (luigi.Parameter,)),
    "init": Name(
        "steps that run just before `run`",
        "an InitStep, or a tuple of them",
        lambda value: all(
            isinstance(one, luigi.Task) for one in (value if isinstance(value, (list, tuple)) else [value])
        ),
    ),
    "pool": Name("the workers of a queue that take it", "text", _or_none(_is_text), _TEXTS),
    "channel": Name(
        "names that rate_limits can limit",
        "text or a list of texts",
        _or_none(lambda value: _is_text(value) or _is_names(value)),
        _TEXTS,
    ),
    "retry_delay": _setting("seconds before another attempt (queue)", _NUMBER),
    "priority": _setting("which task goes first (Luigi)", _NUMBER),
    "resources": Name(
        "what the scheduler counts (Luigi)",
        "a dict of names and numbers",
        _or_none(lambda v: isinstance(v, Mapping)),
        (luigi.DictParameter,),
    ),
    "retry_count": _setting("attempts before the task is given up (Luigi)", _NUMBER),
    "worker_timeout": _setting("seconds that one attempt may take (Luigi)", _NUMBER),
    "disabled": _setting("not to be run (Luigi)", _FLAG),
    "disable_hard_timeout": _setting("when failures are no longer tried again (Luigi)", _NUMBER),
    "disable_window": _setting("the time in which failures count (Luigi)", _NUMBER),
    "disable_window_seconds": _setting("its old name (Luigi)", _NUMBER),
    "max_batch_size": _setting("how many tasks one batch holds (Luigi)", _NUMBER),
    "owner_email": Name(
        "who is told of failures (Luigi)",
        "text or a list of texts",
        _or_none(lambda value: _is_text(value) or _is_names(value)),
        (*_TEXTS, luigi.ListParameter),
    ),
    "accepts_messages": _setting("takes messages from the web page (Luigi)", _FLAG),
    "task_namespace": Name("goes before the family's name (Luigi)", "text", _or_none(_is_text)),
    "use_cmdline_section": _setting("parameters may be global on the command line (Luigi)", _FLAG),
}
#: What every task has, for you to use; a subclass may extend the methods.
OFFERED: dict[str, Name] = {
    "force": Name(
        "whether this run makes the task again",
        "anything: the name is then yours",
        lambda value: True,
        (luigi.Parameter,),
    ),
    "raise_exception": Name(
        "an option of `run_task`, once of every task",
        "anything: the name is then yours",
        lambda value: True,
        (luigi.Parameter,),
    ),
    "task_id": _given("the identity as text (Luigi)"),
    "task_hash": _given("the identity with all that is required, 32 hex digits", computed=True),
    "task_family": Name(
        "the name of the class with its namespace (Luigi)", "text, or a property", _is_said_or_computed
    ),
    "task_module": Name("where the class is written (Luigi)", "text, or a property", _is_said_or_computed),
    "task_dir": _given("the task's working folder", computed=True),
    "task_seed": _given("a number from the identity", computed=True),
    "param_kwargs": _given("the parameters' values (Luigi)"),
    "param_args": _given("the same as a tuple (Luigi)"),
    "tags": Name(
        "names and values beside the identity: give `tags={…}` in a call, or use `task.tag(…)`",
        "nothing of yours",
        _never,
        computed=False,
    ),
    "tagspath": _given("the tags as a path", computed=True),
    "tag": Name("adds tags", "a method", lambda value: _can_be_called(value, 1, ("x",)), computed=False),
    "result": _method("the value of a complete task", 0, 1, "as_type"),
    "clear": _method("removes the outputs"),
    "clear_all": _method("removes all outputs of the class"),
    "cancel": _method("stops the attempt that runs", 0, 1),
    "remaining_time": _method("seconds that this attempt has left"),
    "shared_path": _method("a folder for several tasks", 1, 3),
    "on_completed": _method("calls back when the task is complete", 1),
    "on_failed": _method("calls back when it was given up", 1),
    "plot_dependency_graph": _method("a picture of the graph", 0, 1),
    "input": _method("the outputs of what is required (Luigi)"),
    "deps": _method("the tasks that are required, flat (Luigi)"),
    "clone": _method("the same task with other parameters (Luigi)", 0, 1),
    "set_tracking_url": _given("tells the scheduler a link (Luigi)"),
    "set_status_message": _given("tells the scheduler a message (Luigi)"),
    "set_progress_percentage": _given("tells the scheduler the progress (Luigi)"),
    "scheduler_messages": _given("messages to a running task (Luigi)"),
}
#: How classes, tasks, schedulers and workers work together.
MACHINERY: dict[str, Name] = {
    "run_names": Name("what `run` may ask for", "a frozenset of names", _is_names, computed=False),
    "returns": Name("what `run` returns, as annotated", "a type", _is_annotation, computed=False),
    "inputs_annotation": Name("the types of `inputs`, as annotated", "a type", _any, computed=False),
    "commits_outputs": Name("a run that ends well has committed", "True or False", _is_flag, computed=False),
    "make_part": Name("makes `task[key]`", "a function of a task and a key", callable, computed=False),
    "must_pickle": _given("goes to other processes as a pickle", computed=True),
    "outputs_exist": _method("whether every output exists"),
    "only_wraps": _method("whether the class is done when what it requires is"),
    "existence_is_plain": _method("whether no mix-in has a say in that"),
    "records_run": _method("whether the task can tell which run made its outputs"),
    "made_by_run": _method("whether that run made them", 1),
    "current_attempt": _method("the attempt that runs in this thread"),
    "abandon_attempts": _method("drops what interrupted attempts have staged"),
    "check_parameters": _method("calls `validate`"),
    "required_by_steps": _method("what init steps require"),
    "texts_beside_parameters": _method("what else is part of the identity"),
    "get_params": _method("names and parameters (Luigi)"),
    "get_param_names": _method("names of parameters (Luigi)"),
    "get_param_values": _method("values of parameters for a call (Luigi)", 3),
    "batch_param_names": _method("names of parameters that can be batched (Luigi)"),
    "batchable": Name("whether tasks can be batched (Luigi)", "True or False", _is_flag),
    "get_task_family": _method("the name of the class (Luigi)"),
    "get_task_namespace": _method("its namespace (Luigi)"),
    "from_str_params": _method("the task of these texts (Luigi)", 1),
    "to_str_params": _method("the texts of the parameters (Luigi)", 0, 2, "only_significant", "only_public"),
    "initialized": _method("whether the task was made in full (Luigi)"),
    "event_handler": _method("decorates a callback (Luigi)", 1),
    "remove_event_handler": _method("takes it back (Luigi)", 2),
    "trigger_event": _method("calls the callbacks (Luigi)", 1),
    "no_unpicklable_properties": _method("a context for pickling (Luigi)"),
    "cls": Name("the class, in calls of it (Luigi)", "anything but a parameter", lambda value: True),
    "self": Name("the task, in calls of its class (Luigi)", "anything but a parameter", lambda value: True),
}
RESERVED: dict[str, Name] = {**HOOKS, **SETTINGS, **OFFERED, **MACHINERY}
_NAMES = RESERVED.keys()
#: Classes of these packages are no users'.
_LIBRARIES = ("superluigi.", "luigi.")


def check_class(cls: type, namespace: Mapping[str, object]) -> None:
    """Refuse a class that takes a reserved name with another shape, itself or by a base that was not written for us.

    Raises:
        DefinitionError: says what the name means and what could stand there.
    """
    if f"{cls.__module__}.".startswith(_LIBRARIES):
        return
    for name in _NAMES & namespace.keys():
        check(cls.__name__, name, namespace[name])
    if cls.__hash__ is None:  # Python's own doing, where a class or a mix-in has an __eq__ and no more
        raise DefinitionError(
            f"{cls.__name__} has an __eq__ and no __hash__, but tasks are kept in sets and dicts. Take __eq__ away "
            "(tasks are equal when class and parameters are), or write `__hash__ = luigi.Task.__hash__` beside it."
        )
    for owner in cls.__mro__[1:-1]:
        if not _NAMES.isdisjoint(owner.__dict__) and _is_mixin(owner):
            for name in _NAMES & owner.__dict__.keys():
                if inspect.getattr_static(cls, name) is owner.__dict__[name]:
                    check(f"{cls.__name__} ({owner.__name__})", name, owner.__dict__[name])


class MisspeltNameWarning(UserWarning):
    """A method of a task class is called almost as one that every task has, which the class does not write."""


def warn_of_misspelt(cls: type, namespace: Mapping[str, object], stacklevel: int) -> None:
    """Warn of methods whose names are nearly those of hooks, and which nothing in the class calls."""
    own = {name: one for name, one in namespace.items() if inspect.isfunction(one) and not name.startswith("_")}
    called = {name for one in own.values() for name in one.__code__.co_names}
    for name in own.keys() - RESERVED.keys() - called:
        near = difflib.get_close_matches(name.lower(), [hook for hook in HOOKS if hook not in namespace], 1, 0.85)
        if near and not any(hasattr(base, name) for base in cls.__mro__[1:]):
            warnings.warn(
                f"{cls.__name__}.{name} is a method that nothing calls. If {near[0]} was meant "
                f"({HOOKS[near[0]].meaning}), write `def {near[0]}`; else choose a name that is less like it.",
                MisspeltNameWarning,
                stacklevel=stacklevel + 1,
            )


def check(class_name: str, name: str, value: object) -> None:
    """Refuse `value` in a class body under a reserved name whose shape it has not.

    Raises:
        DefinitionError: says what the name means and what could stand there.
    """
    reserved = RESERVED.get(name)
    if reserved is None or reserved.takes(value):
        return
    if isinstance(value, luigi.Parameter):
        known = "no parameter" if not reserved.parameters else "no parameter of this kind"
        raise DefinitionError(
            f"{class_name}.{name} is a parameter, but {name!r} is a name that every task has already "
            f"({reserved.meaning}): {known} can be called so. Choose another name ({PAGE})."
        )
    raise DefinitionError(
        f"{class_name}.{name} is {_shown(value)}, but {name!r} is a name that every task has already "
        f"({reserved.meaning}): expected is {reserved.shape}. {_instead(name, value)} ({PAGE})."
    )


def _shown(value: object) -> str:
    if inspect.isfunction(value):
        with contextlib.suppress(TypeError, ValueError):
            return f"`def {value.__name__}{inspect.signature(value)}`"
    return f"a {type(value).__name__}" if isinstance(value, (property, classmethod)) else f"{value!r:.100}"


def _instead(name: str, value: object) -> str:
    items = graph.flatten(value) if name in ("output", "requires") and not callable(value) else []
    if items and all(isinstance(item, (luigi.Target, luigi.Task)) for item in items):
        return f"Write `def {name}(self): return {value!r:.100}`"
    if name == "requires" and items and all(isinstance(item, (str, type)) for item in items):
        task = getattr(items[0], "__name__", items[0])
        return f"Choose another name, or write `def requires(self): return …` with tasks, as in {task}(…)"
    if name == "output" and items and all(isinstance(item, (str, os.PathLike)) for item in items):
        return f"Choose another name, or write `def output(self): return LocalFileTarget({os.fspath(items[0])!r:.100})`"
    if isinstance(value, (property, classmethod)):
        return f"Choose another name, or take @{type(value).__name__} away"
    if inspect.isfunction(value) and name in HOOKS:
        takes_nothing = HOOKS[name].shape.endswith("no argument")
        return f"Choose another name, or {f'write `def {name}(self)`' if takes_nothing else 'give it that shape'}"
    if name in _EXAMPLES:
        return f"Choose another name, or write `{name} = {_EXAMPLES[name]}`"
    return "Choose another name, or give it that shape"


#: How settings are written that are often given another shape.
_EXAMPLES = {
    "checks": "[schema, function]", "resources": "{'gpu': 1}", "environment": "{'OMP_NUM_THREADS': '1'}",
    "command_prefix": "'nice -n 10'", "suffix": "'.csv'", "channel": "'api'", "retry_count": "3",
    "retry_delay": "60", "worker_timeout": "3600", "priority": "10",
}  # fmt: skip


def _is_mixin(owner: type) -> bool:
    """Whether a base is the user's, and was not checked as a task class of ours: Luigi's own tasks are none, either."""
    return not hasattr(type(owner), "_parameter_version") and not f"{owner.__module__}.".startswith(_LIBRARIES)


def table() -> str:
    """The reserved names as Markdown, for the docs."""
    lines = []
    for title, names in (
        ("Methods that you write", HOOKS),
        ("Settings: attributes that you set", SETTINGS),
        ("What every task offers", OFFERED),
        ("What holds it together", MACHINERY),
    ):
        lines += [f"**{title}**", "", "| name | meaning | what may stand there |", "|---|---|---|"]
        for name, reserved in names.items():
            parameter = "; a parameter too" if reserved.parameters else ""
            lines.append(f"| `{name}` | {reserved.meaning} | {reserved.shape}{parameter} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
