"""`MODULE TASK --param value …` for every command that wants a task.

MODULE is a dotted name or a `.py` file, found from the current folder as well as from `sys.path`; it may
be left out for tasks of modules that a package declares in the entry point group `superluigi.modules`.
TASK is a task family (`namespace.Name`), or the name in MODULE of a task class, a task or a task function.
Parameters are read by Luigi's own definitions: explicit beats configuration beats default.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from superluigi.cli._parser import Parser, UsageError, similar
from superluigi.errors import ConfigError, DefinitionError, OptionError, ParameterError, SuperLuigiError, message_of
from superluigi.execution.importing import only_importing
from superluigi.terminal import say

if TYPE_CHECKING:
    import luigi

ENTRY_POINTS = "superluigi.modules"
_EXAMPLES = {
    "LIST": "write it as JSON, such as '[1, 2]'",
    "TUPLE": "write it as JSON or Python, such as '[1, 2]'",
    "DICT": """write it as JSON, such as '{"rate": 0.1}'""",
    "INT": "write a whole number, such as 3",
    "FLOAT": "write a number, such as 0.5",
    "BOOL": "write true or false",
    "DATE": "write 2013-12-15",
    "DATEHOUR": "write 2013-12-15T08",
    "DATEMINUTE": "write 2013-12-15T0830",
    "DATESECOND": "write 2013-12-15T083000",
    "DATETIME": "write 2013-12-15T08:30:00",
    "MONTH": "write 2013-12",
    "YEAR": "write 2013",
    "TIMEDELTA": "write '2 h 30 m', '1 d', 'P1DT2H' or a number of seconds",
    "DATEINTERVAL": "write 2013, 2013-01, 2013-W02, 2013-01-15 or 2013-01-01-2013-01-15",
}
_PREFIX = "param:"  # of attributes in the namespace, so that they cannot collide with a command's own


def task_arguments(parser: Parser, *, store: bool = True) -> None:
    """Make `parser` take `MODULE TASK --param value … [--config FILE] [--store PLACE]`; read them with `task_of`."""
    parser.add_argument("module", metavar="MODULE", help="module or .py file that defines the task")
    parser.add_argument("task", metavar="TASK", help="the task's family, or its name in MODULE")
    config_option(parser)
    if store:
        parser.add_argument("--store", dest="home", metavar="PATH_OR_URL", help="the default home of outputs")
    parser.usage = f"{parser.prog} {' '.join(parser.positionals).upper()} --parameter value … [options]"
    parser.extend = _add_parameters
    parser.may_be_empty.add("module")  # it may be left out
    parser.flags_are_parameters = True


def task_of(args: argparse.Namespace) -> luigi.Task:
    """The task that the command line describes.

    Raises:
        UsageError: a value is missing, cannot be read, or is refused by the task.
        ParameterError: no such module or task.
        ConfigError: the configuration file is not there or cannot be read.
    """
    import luigi

    found = find_task(args.module, args.task, args.config)
    if isinstance(found, luigi.Task):
        return found
    family = found.get_task_family()
    values = {
        name: _parsed(parameter, text, name, family)
        for name, parameter in found.get_params()
        if (text := getattr(args, _PREFIX + name, None)) is not None
    }
    try:
        return found(**values)
    except (luigi.parameter.ParameterException, ValueError, TypeError) as error:
        missing = [
            f"--{name.replace('_', '-')}"
            for name, parameter in found.get_params()
            if name not in values and not _has_value(parameter, family, name)
        ]
        if missing:
            flags = ", ".join(missing)
            raise UsageError(f"{family} needs {flags}. `--help` after its name explains each.") from error
        said = error if isinstance(error, ParameterError) else f"{family}: {message_of(error)}"
        raise UsageError(str(said)) from error


def find_task(module: str, name: str, config: str | None = None) -> type[luigi.Task] | luigi.Task:
    """A task class, or a task that a module holds ready under `name`; `config` is read first.

    Raises:
        UsageError: only a module is named.
        ParameterError: the module cannot be imported, or has no such task (the nearest one is suggested).
    """
    read_config(config)
    modules = [import_module(module)] if module else _declared_modules()
    found = _lookup(name, modules)
    if found is not None:
        return found
    if not module and (name.endswith(".py") or os.path.isfile(f"{name}.py")):
        raise UsageError(f"Which task of {name}? It has: {', '.join(task_names([import_module(name)]))}.")
    raise ParameterError(_no_such_task(name, module, modules))


def import_module(name: str) -> ModuleType:
    """Import a module by dotted name or by the path of its file, the current folder first."""
    path = Path(name) if name.endswith(".py") or os.sep in name else None
    if path is not None:
        if not os.path.isfile(path):
            raise ParameterError(f"There is no file {name} (current folder: {Path.cwd()}).")
        _search_first(path.absolute().parent)
        name = path.stem
        if "." in name:
            raise ParameterError(
                f"{path} cannot be imported: Python takes the dots in {name!r} for packages. Rename it."
            )
    else:
        _search_first(Path.cwd())
    try:
        with only_importing():
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise ParameterError(_broken_import(name, error)) from error
        near = similar(name, [file.stem for file in Path.cwd().glob("*.py")])
        raise ParameterError(
            f"There is no module {name!r} in the current folder ({Path.cwd()}) or on sys.path{near or '.'}"
        ) from error
    except OptionError as error:  # of the module, not of the command line
        raise DefinitionError(_broken_import(name, error)) from error
    except SuperLuigiError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module's body may raise anything, and it is the user's
        raise ParameterError(_broken_import(name, error)) from error
    found = getattr(module, "__file__", None) or "a built-in module"
    if path is not None and not (os.path.isfile(found) and os.path.samefile(found, path)):
        raise ParameterError(f"{path} cannot be imported: {name!r} means {found} in this process. Rename the file.")
    return module


def _search_first(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
    # Worker processes started afresh (spawn, Dask's) must find the module as well.
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(folder) not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, known)])


def _broken_import(name: str, error: BaseException) -> str:
    where = ""
    ours = (f"{Path(__file__).parents[1]}{os.sep}", f"{Path(importlib.__file__).parent}{os.sep}", "<frozen importlib")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    elif frames:
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})"
    hint = ""
    if isinstance(error, ImportError) and "relative import" in str(error):
        hint = (
            ". A file that is given by its path belongs to no package: go to the folder above, and give the module by "
            f"its name, as in PACKAGE.{name}"
        )
    elif isinstance(error, ModuleNotFoundError) and error.name and error.name != name:
        hint = f". {_installing(error.name)}, or run in the folder that holds it"
    return f"Importing {name!r} failed with {type(error).__name__}: {message_of(error)}{where}{hint}"


def _installing(module: str) -> str:
    """What installs a module: an extra of ours, where one has it."""
    from importlib.metadata import PackageNotFoundError, requires

    top = module.partition(".")[0]
    package = {"sklearn": "scikit-learn"}.get(top, top)
    wanted = re.compile(rf"{re.escape(package)}\b(?!-).*extra == ['\"](?!test|dev|docs)(\w+)", re.IGNORECASE)
    try:
        extras = sorted({found[1] for found in map(wanted.match, requires("superluigi") or ()) if found})
    except PackageNotFoundError:  # it runs from its source, uninstalled
        extras = []
    return " or ".join(f"pip install 'superluigi[{extra}]'" for extra in extras) or f"Install what provides {module}"


def _declared_modules() -> list[ModuleType]:
    from importlib.metadata import entry_points

    loaded = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            with only_importing():
                loaded.append(point.load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 one broken package must not hide the others
            say(f"warning: {_broken_import(point.value, error)}", err=True)
    return loaded


def _lookup(name: str, modules: list[ModuleType]) -> type[luigi.Task] | luigi.Task | None:
    import luigi

    from superluigi.luigi_compat.tasks import registered

    found: type[luigi.Task] | str | None = registered(name)
    if isinstance(found, type):
        return found
    for module in modules:
        value = getattr(module, name, None)
        if isinstance(value, luigi.Task) or (isinstance(value, type) and issubclass(value, luigi.Task)):
            return value
    return None


def task_names(modules: list[ModuleType]) -> list[str]:
    """Families of the task classes that these modules define or import, sorted."""
    import luigi

    values = (value for module in modules for value in vars(module).values())
    classes = (value for value in values if isinstance(value, type) and issubclass(value, luigi.Task))
    library = ("luigi", "superluigi")
    return sorted({one.get_task_family() for one in classes if one.__module__.split(".")[0] not in library})


def _no_such_task(name: str, module: str, modules: list[ModuleType]) -> str:
    names = task_names(modules)
    if module:
        listed = f"It has: {', '.join(names)}." if names else "It has no task classes."
        return f"Module {module!r} has no task {name!r}{similar(name, names) or '.'} {listed}"
    module, _, last = name.rpartition(".")
    if module and os.path.isfile(f"{module.replace('.', os.sep)}.py"):
        return f"{name!r} is neither a task nor a module. Write the module and the task apart: {module} {last}."
    if "://" in name or os.path.exists(name):
        return (
            f"{name!r} is a place, and no task: write MODULE TASK. `superluigi ls --in` lists the outputs at a place; "
            "lineage and verify look at one."
        )
    return (
        f"There is no task {name!r} in the modules that installed packages declare "
        f"({ENTRY_POINTS}){similar(name, names) or '.'} Else say MODULE TASK."
    )


def config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE`."""
    parser.add_argument("--config", metavar="FILE", help="Luigi configuration to read, over what is read anyway")


def read_config(file: str | None) -> None:
    """Read a configuration file, or that of the setting `default_task_config`, over what Luigi reads by itself.

    Raises:
        ConfigError: it is not there or cannot be read.
    """
    from superluigi import config

    default: Path = config.get("default_task_config")
    if file is None and not os.path.isfile(default):
        return
    config.set_config(config.read_file(default if file is None else file))


def _add_parameters(parser: Parser, words: list[str]) -> list[str]:
    """Add the flags of the task named in `words`; returns the words in the spelling that argparse knows."""
    import luigi

    positionals = parser.positionals
    at = _leading(parser, words)
    task_index = positionals.index("task")
    if len(at) == len(positionals) - 1:  # the module was left out
        position = at[task_index - 1] if task_index <= len(at) else len(words)
        words = [*words[:position], "", *words[position:]]
        at = _leading(parser, words)
    if len(at) <= task_index:
        return words
    config = _value_of("--config", words)
    found = find_task(words[at[task_index - 1]], words[at[task_index]], config)
    if isinstance(found, luigi.Task):
        return words
    family = found.get_task_family()
    group = parser.add_argument_group(f"parameters of {family}", (found.__doc__ or "").strip().split("\n")[0])
    for name, parameter in found.get_params():
        flag = f"--{name.replace('_', '-')}"
        if flag in parser.flags:
            flag = f"--{family}-{name.replace('_', '-')}"
        _add_flag(group, flag, _PREFIX + name, parameter, _help(parameter, family, name))
        parser.may_be_empty.add(_PREFIX + name)
    return [_respell(word, parser, family) for word in words]


def _leading(parser: Parser, words: list[str]) -> list[int]:
    """Places of the positional words before the first flag that the command itself does not know."""
    indexes: list[int] = []
    index = 0
    while index < len(words) and len(indexes) < len(parser.positionals):
        word = words[index]
        if word.startswith("-"):
            action = parser.flags.get(word.split("=", 1)[0])
            if action is None:
                break
            index += action.nargs is None and "=" not in word  # its value
        else:
            indexes.append(index)
        index += 1
    return indexes


def _value_of(flag: str, words: list[str]) -> str | None:
    for index, word in enumerate(words):
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
        if word == flag and index + 1 < len(words):
            return words[index + 1]
    return None


def _add_flag(group: Any, flag: str, dest: str, parameter: luigi.Parameter[Any], text: str) -> None:
    import luigi

    options: dict[str, object] = {"dest": dest, "metavar": _kind(parameter), "help": text.replace("%", "%%")}
    if isinstance(_plain(parameter), luigi.BoolParameter):
        options.update(nargs="?", const="True", metavar="true|false")
    group.add_argument(flag, **options)


def _respell(word: str, parser: Parser, family: str) -> str:
    """`--max_iter` and `--MyTask-max-iter` become `--max-iter`; `--Other-x` becomes a setting of Other."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    if flag in parser.flags:
        return word
    plain = flag.replace("_", "-")
    short = "--" + plain.removeprefix(f"--{family}-")
    for spelling in (plain, short):
        if spelling in parser.flags and not (spelling == short and short == plain):
            return f"{spelling}{equals}{value}"
    _add_other_task(parser, flag)
    return word


def _add_other_task(parser: Parser, flag: str) -> None:
    from luigi.task_register import Register

    for family, is_not_for_flags, name, _ in Register.get_all_params():
        if flag in (f"--{family}-{name}", f"--{family}-{name.replace('_', '-')}") and not is_not_for_flags:
            set_config = parser.add_argument(flag, action=_SetConfig, section=family, key=name, help=argparse.SUPPRESS)
            parser.may_be_empty.add(set_config.dest)
            return


class _SetConfig(argparse.Action):
    """`--ModelTask-version 3` is `version = 3` in section `[ModelTask]`, over the files."""

    def __init__(self, section: str, key: str, **options: Any) -> None:
        super().__init__(**options)
        self.section, self.key = section, key

    def __call__(self, parser: object, namespace: Any, values: object, option_string: str | None = None) -> None:
        from superluigi.config import set_config

        set_config({self.section: {self.key: values}})
        sections: dict[str, dict[str, str]] = getattr(namespace, "sections", {})
        sections.setdefault(self.section, {})[self.key] = str(values)
        namespace.sections = sections


def _help(parameter: luigi.Parameter[Any], family: str, name: str) -> str:
    from luigi.parameter import ParameterVisibility

    from superluigi.luigi_compat.parameters import choices_of

    # Luigi appends its choices in random order.
    described = (parameter.description or "").split("Choices: {")[0].strip()
    parts = [described] if described else []
    if choices := choices_of(_plain(parameter)):
        parts.append(f"one of {', '.join(choices)}")
    if not _has_value(parameter, family, name):
        parts.append("(required)")
    elif parameter.visibility == ParameterVisibility.PUBLIC:  # others may hold secrets
        default = parameter.task_value(family, name)
        try:
            said = parameter.serialize(default)
        except Exception:  # noqa: BLE001 - Luigi writes no default that is not used, as None of a TaskParameter
            said = repr(default)
        parts.append(f"(default: {said})")
    return " ".join(parts)


def _has_value(parameter: luigi.Parameter[Any], family: str, name: str) -> bool:
    try:
        return bool(parameter.has_task_value(family, name))
    except Exception as error:  # `parse` of any parameter class may raise anything
        raise ConfigError(f"[{family}] {name} in the configuration cannot be read: {error}") from error


#: Longer values are cut in messages.
_LONGEST = 200


def _parsed(parameter: luigi.Parameter[Any], text: str, name: str, family: str) -> object:
    from superluigi.luigi_compat.parameters import choices_of

    try:
        return parameter.parse(text)
    except Exception as error:  # `parse` of any parameter class may raise anything
        flag = f"--{name.replace('_', '-')}"
        wanted = _EXAMPLES.get(_kind(parameter), str(error).rstrip("."))
        if _is_structure(text):  # it is written well, and holds what it should not
            wanted = f"expected is {error}".rstrip(".")
        if choices := choices_of(_plain(parameter)):
            wanted = f"it is one of {', '.join(choices)}"
        said = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        raise UsageError(f"{flag} of {family}: {said!r} cannot be read as {_kind(parameter)}: {wanted}.") from error


def _plain(parameter: luigi.Parameter[Any]) -> luigi.Parameter[Any]:
    """What reads a parameter's text: of an argument for which a task may stand, that of its type alone."""
    from superluigi.parameters.checked import Structured

    return (isinstance(parameter, Structured) and parameter.plain) or parameter


def _is_structure(text: str) -> bool:
    import json

    try:
        return isinstance(json.loads(text), (list, dict))
    except ValueError:
        return False


def _kind(parameter: luigi.Parameter[Any]) -> str:
    """`DATE` for a DateParameter, an OptionalDateParameter, and what an annotation makes of a date."""
    name = type(_plain(parameter)).__name__.removesuffix("Parameter")
    return name.removeprefix("Optional").removeprefix("Checked").upper() or "TEXT"
