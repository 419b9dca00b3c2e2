"""Every setting: its name, what it means, its environment variable, its default.

A value comes from the environment, else from the section `[superluigi]` of Luigi's configuration
(`luigi.cfg`, the file in `SUPERLUIGI_DEFAULT_TASK_CONFIG`, `run_task(config=…)`), else from the default.
Arguments of functions win over all of these. An unknown key in the section is an error.
"""

from __future__ import annotations

import configparser
import contextlib
import difflib
import functools
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from superluigi.arguments import guarded
from superluigi.errors import ConfigError, MissingDependencyError
from superluigi.luigi_compat.configuration import understood
from superluigi.setting_texts import EXCLUSIVE as EXCLUSIVE
from superluigi.setting_texts import address, amount, at_home, count, exclusive, flag, folder, size

SECTION = "superluigi"


@dataclass(frozen=True)
class Setting:
    """One documented setting; `parse` turns the text of a file or variable into the value."""

    name: str
    default: str
    parse: Callable[[str], Any]
    help: str

    @functools.cached_property
    def variable(self) -> str:
        return f"SUPERLUIGI_{self.name.upper()}"

    @functools.cached_property
    def encoded(self) -> bytes:
        """`variable` as the system has it."""
        return os.fsencode(self.variable)


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("local_data_dir", "~/.superluigi/data", folder, "local copies of S3 data"),
        Setting("workspace", "~/.superluigi/workspace", folder, "task folders: logs, attempts, checkpoints"),
        Setting("queue_dir", "~/.superluigi/queues", folder, "SQLite files of named queues"),
        Setting("store", "./superluigi-data", address, "default home of outputs: a folder or s3://bucket/prefix"),
        Setting("default_task_config", "./superluigi.cfg", folder, "config file that run_task reads when there"),
        Setting("durable", "true", flag, "flush files and folders to disk in a commit (P6)"),
        Setting("queue_keep_days", "90", amount, "managers of queues forget tasks that ended longer ago; 0: never"),
        Setting("queue_keep_tasks", "1000000", count, "managers of queues forget all but the latest so many; 0: never"),
        Setting("allow_pickle", "true", flag, "load pickles from the store; they can run code"),
        Setting("check_saved", "true", flag, "read back what a format may have changed; else refused before a commit"),
        Setting("cache_limit_bytes", "none", size, "most that local copies of S3 data may take"),
        Setting("cache_min_free_bytes", "1GB", size, "free disk space that local copies must leave"),
        Setting("full_tracebacks", "false", flag, "show the frames of Luigi and Super Luigi above the user's"),
        Setting("exclusive", "auto", exclusive, "what runs elsewhere: wait, fail, off; auto is wait, on S3 off"),
        Setting("seed_random", "true", flag, "seed random and numpy from each task's identity"),
        Setting("capture_logs", "true", flag, "keep what tasks print in their folders"),
        Setting("grace_seconds", "30", amount, "time that SIGTERM leaves to resumable tasks"),
        Setting("keep_attempts", "10", count, "task folders of earlier attempts that are kept"),
        Setting("quarantine", "true", flag, "keep outputs that checks have rejected"),
        Setting("quarantine_limit_bytes", "10GB", size, "most that rejected outputs may take"),
        Setting("quarantine_days", "30", amount, "days after which rejected outputs are removed; 0: never"),
        Setting("keep_days", "30", amount, "days after which task folders of finished tasks are pruned"),
    )
}


def get(name: str) -> Any:
    """The value in force of the setting `name`.

    Raises:
        ConfigError: no such setting, or its text cannot be read.
    """
    setting = SETTINGS.get(name)
    if setting is None or setting.parse not in _REMEMBERED:
        return lookup(name)[0]
    text = _variable(setting.variable, setting.encoded)  # asked many times a task
    if text is None:
        text = _from_luigi_config(name)
        if text is None:
            text = setting.default
    home = None
    if setting.parse is folder and not text.startswith("/"):
        if not text.startswith("~"):  # it depends on the present folder
            return lookup(name)[0]
        home = os.environ.get("HOME")
    try:
        return _parsed(name, text, home)
    except ValueError:
        return lookup(name)[0]  # says what is wrong


_REMEMBERED = (flag, size, folder, exclusive)


def _variable(name: str, encoded: bytes) -> str | None:
    """What the environment says; `os.environ` itself raises two errors before it says that it has nothing."""
    table = getattr(os.environ, "_data", None) if _IS_POSIX else None
    if table is None:
        return os.environ.get(name)
    found = table.get(encoded)
    return None if found is None else os.fsdecode(found)


_IS_POSIX = os.name == "posix"  # elsewhere names are kept in another way


@functools.lru_cache(maxsize=256)
def _parsed(name: str, text: str, home: str | None) -> object:
    return SETTINGS[name].parse(text)  # `~` in it is `home`


def environment() -> dict[str, str]:
    """The variables of this process, some of which other threads may change while they are copied."""
    return {name: value for name in os.environ if (value := os.environ.get(name)) is not None}


def lookup(name: str) -> tuple[object, str]:
    """The value in force and where it comes from: `environment …`, `config [superluigi]` or `default`."""
    setting = SETTINGS.get(name)
    if setting is None:
        raise ConfigError(f"There is no setting {name!r}.{suggestion(name, SETTINGS)}")
    text, origin = os.environ.get(setting.variable), f"environment {setting.variable}"
    if text is None:
        text, origin = _from_luigi_config(name), f"config [{SECTION}]"
    if text is None:
        text, origin = setting.default, "default"
    try:
        return setting.parse(text), origin
    except ValueError as error:
        raise ConfigError(f"{name} = {text!r} ({origin}) cannot be read: {error}. It means: {setting.help}.") from error


def check_values() -> None:
    """Refuse values that are given and cannot be read, before anything goes by one of them."""
    for setting in SETTINGS.values():
        if setting.variable in os.environ or _from_luigi_config(setting.name) is not None:
            lookup(setting.name)


def raw_sections() -> dict[str, dict[str, Any]]:
    """Luigi's configuration as it is written: section → key → raw text; of a TOML file, its own values."""
    from luigi.configuration import get_config

    parser = get_config()
    tables = _toml(parser)
    if tables is not None:
        return {section: dict(items) for section, items in tables.items() if isinstance(items, Mapping)}
    defaults = {parser.default_section: dict(parser.defaults())} if parser.defaults() else {}
    return {**defaults, **{section: _own(parser, section) for section in parser.sections()}}


def _own(parser: Any, section: str) -> dict[str, object]:
    """The raw values of a section, less those that it has from `[DEFAULT]`."""
    tables = _toml(parser)
    if tables is not None:
        return dict(tables.get(section, {}))
    defaults = parser.defaults()
    values = parser.items(section, raw=True) if parser.has_section(section) else ()
    return {key: value for key, value in values if key not in defaults or defaults[key] != value}


def _fill(parser: Any, section: str, items: Mapping[str, object]) -> None:
    """Set values as they are. Luigi's own `set` knows no `[DEFAULT]`, and makes no section that has all from there."""
    tables = _toml(parser)
    if tables is not None:
        tables.setdefault(section, {}).update(items)
    elif section == parser.default_section:
        parser.defaults().update(items)
    else:
        if not parser.has_section(section):
            parser.add_section(section)
        for key, value in items.items():
            parser.set(section, key, value)


def _toml(parser: object) -> dict[str, Any] | None:
    """What Luigi's parser for TOML holds (it is a ConfigParser too, but an empty one); None for the usual parser."""
    tables = getattr(parser, "data", None)
    return tables if isinstance(tables, dict) else None


def check() -> None:
    """Refuse keys of the section `[superluigi]` that are no settings."""
    from luigi.configuration import get_config

    for key in _own(get_config(), SECTION):
        if key.replace("-", "_") not in SETTINGS:
            raise ConfigError(
                f"Unknown key {key!r} in section [{SECTION}].{suggestion(key, SETTINGS)} "
                f"Known keys: {', '.join(sorted(SETTINGS))}."
            )


def _from_luigi_config(name: str) -> str | None:
    from luigi.configuration.core import DEFAULT_PARSER, get_config  # late: `import superluigi` stays light

    chosen = _variable("LUIGI_CONFIG_PARSER", b"LUIGI_CONFIG_PARSER")
    config = get_config(DEFAULT_PARSER if chosen is None else None)  # Luigi looks at the variable by way of two errors
    if _toml(config) is None and not config.has_section(SECTION):
        return None
    check()
    for spelling in (name, name.replace("_", "-")):
        if config.has_option(SECTION, spelling):
            with understood(SECTION, spelling):
                return str(config.get(SECTION, spelling))
    return None


def suggestion(word: str, known: Any) -> str:
    """` Did you mean 'x'?` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


@contextlib.contextmanager
def applied(values: Mapping[str, Mapping[str, object]] | None) -> Iterator[None]:
    """Put `{section: {key: value}}` into Luigi's configuration for the time of the block.

    A process has one configuration. So a block with other values than those in force, in another thread, waits until
    these are no longer in use; equal ones share them. A block inside of another one, in a thread that works for it,
    does not wait, and what it puts there is seen by all that work for the outer one meanwhile.
    """
    sections = {section: dict(items) for section, items in (values or {}).items()}
    with _turns.taken(sections) as is_first, _set(sections) if is_first else contextlib.nullcontext():
        yield


class _Turns:
    """Whose configuration is in force: one set of values at a time, for any number of blocks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._values: dict[str, dict[str, object]] | None = None
        self._users = 0
        self._undo = contextlib.ExitStack()
        self._inside = ContextVar[dict[str, dict[str, Any]] | None]("superluigi_config", default=None)

    @contextlib.contextmanager
    def _within(self, values: dict[str, dict[str, object]] | None) -> Iterator[None]:
        token = self._inside.set(values)
        try:
            yield
        finally:
            self._inside.reset(token)

    @contextlib.contextmanager
    def taken(self, values: dict[str, dict[str, object]]) -> Iterator[bool]:
        """Have `values` in force; whether the block must set them itself, since it is inside of one with others."""
        outer = self._inside.get()
        if outer is not None:
            with self._within(values):
                yield values != outer
            return
        self._enter(values)
        try:
            with self._within(values):
                yield False
        finally:
            with self._changed:
                self._users -= 1
                if not self._users:
                    self._undo.close()
                    self._values = None
                self._changed.notify_all()

    def _enter(self, values: dict[str, dict[str, object]]) -> None:
        with self._changed:
            if self._users and self._values != values:
                logging.getLogger("superluigi").info("Waiting for runs with another configuration in this process")
            # a run with the same values does not stand behind those who wait: it may work for a run that is on
            while self._users and self._values != values:
                self._changed.wait()
            if not self._users:
                self._undo.enter_context(_set(values))
            self._values = values
            self._users += 1

    def worked_for(self) -> contextlib.AbstractContextManager[None]:
        """Blocks in this thread, an executor's perhaps, are inside of what is in force."""
        return self._within(self._inside.get() or self._values)

    def forked(self) -> None:
        """In a forked child, which has this thread only: what others had in force is not."""
        self._changed = threading.Condition()
        if self._inside.get() is None:
            self._undo.close()
            self._users, self._values = 0, None

    @property
    def in_use(self) -> bool:
        """Whether this process has runs of its own, whose values are in force."""
        return self._users > 0


_turns = _Turns()


os.register_at_fork(after_in_child=_turns.forked)


@contextlib.contextmanager
def _set(values: Mapping[str, Mapping[str, object]]) -> Iterator[None]:
    if not values:
        yield
        return
    from luigi.configuration import get_config

    parser = get_config()
    before = raw_sections()
    try:
        set_config(values)
        yield
    finally:
        _put_back(parser, before, values)


def put_back(before: Mapping[str, Mapping[str, object]]) -> None:
    """Make Luigi's configuration what `raw_sections` said before."""
    from luigi.configuration import get_config

    now = raw_sections()
    _put_back(
        get_config(), before, [section for section in {**now, **before} if now.get(section) != before.get(section)]
    )


def _put_back(parser: Any, before: Mapping[str, Mapping[str, object]], sections: Iterable[str]) -> None:
    tables = _toml(parser)
    for section in sections:
        if tables is not None:
            tables.pop(section, None)
        elif section == parser.default_section:
            parser.defaults().clear()
        else:
            parser.remove_section(section)
        if section in before:
            _fill(parser, section, before[section])


class _Ensured:
    """What `ensured` has put there, for processes that only run tasks."""

    values: Mapping[str, Mapping[str, object]] = {}
    undo = contextlib.ExitStack()


def ensured(values: Mapping[str, Mapping[str, object]] | None) -> contextlib.AbstractContextManager[None]:
    """To enter where tasks of a run run that has `{section: {key: value}}`.

    In the process that has entered `applied` they are in force already; in one that only runs tasks they stay until
    those of another run come.
    """
    if _turns.in_use:
        return _turns.worked_for()
    if values is not _Ensured.values and (values or {}) != _Ensured.values:
        _Ensured.undo.close()
        _Ensured.values = values or {}
        _Ensured.undo.enter_context(_set(_Ensured.values))
    return contextlib.nullcontext()


_imported: set[tuple[str, str]] = set()


def import_sections(sections: Mapping[str, Mapping[str, object]]) -> None:
    """Have the raw `sections` of the caller in this process, and nothing of what an earlier caller had."""
    from luigi.configuration import get_config

    _Ensured.undo.close()
    _Ensured.values = {}
    parser = get_config()
    tables = _toml(parser)
    now = {(section, key) for section, items in sections.items() for key in items}
    for section, key in _imported - now:
        if tables is None:
            parser.remove_option(section, key)
        else:
            tables.get(section, {}).pop(key, None)
    for section, items in sections.items():
        _fill(parser, section, items)
    _imported.clear()
    _imported.update(now)


@guarded
def set_config(sections: Mapping[str, Mapping[str, object]]) -> None:
    """Put `{section: {key: value}}` into Luigi's configuration for the rest of this process.

    For one run, give `run_task(config=…)` instead, which leaves nothing behind.
    """
    from luigi.configuration import get_config

    parser = get_config()
    literal = _config_text if _toml(parser) is None else lambda value: value
    for section, items in sections.items():
        _fill(parser, section, {key: literal(value) for key, value in items.items()})


@guarded
def set_config_file(config_file: str | os.PathLike[str] | None = None) -> None:
    """`set_config` with what a file says: `config_file`, else the setting `default_task_config` where there is one.

    Raises:
        ConfigError: the named file is missing or cannot be read.
    """
    default: Path = get("default_task_config")
    if config_file is not None or default.is_file():
        set_config(read_file(config_file or default))


def _config_text(value: object) -> str:
    if isinstance(value, (dict, list, tuple)):
        try:
            value = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"A configuration cannot hold {value!r:.200}: {error}. Give the text as on a command line, or the "
                "value to the task itself."
            ) from error
    return str(value).replace("%", "%%")


@guarded
def read_file(path: str | os.PathLike[str]) -> Mapping[str, Mapping[str, Any]]:
    """The sections of a configuration file: TOML where it is called so, else Luigi's cfg form.

    In that, `%(key)s` and `${VARIABLE}` are replaced.

    Raises:
        ConfigError: the file is missing or cannot be read.
    """
    file = at_home(path)
    if not os.fspath(path) or not os.path.exists(file):
        shown = file if os.fspath(path) else "''"
        raise ConfigError(f"The config file {shown} does not exist. Create it, or leave config_file out.")
    if not os.path.isfile(file) and os.fspath(file) != os.devnull:
        kind = "a folder" if os.path.isdir(file) else "a pipe or a device, which can be read once only"
        raise ConfigError(f"The config file {file} is {kind}. Name a file, or leave config_file out.")
    from luigi.configuration.cfg_parser import CombinedInterpolation, EnvironmentInterpolation

    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".toml":
            return _toml_tables(text)
        references = CombinedInterpolation([configparser.BasicInterpolation(), EnvironmentInterpolation()])
        parser = configparser.ConfigParser(interpolation=references)
        parser.optionxform = str  # type: ignore[assignment, method-assign]  # parameter names have their case
        parser.read_string(text, source=str(file))
        keys = {
            name: list(_own(parser, name)) if name == SECTION else parser.options(name) for name in parser.sections()
        }
        return {name: {key: _referred(parser, name, key) for key in keys[name]} for name in keys}
    except (OSError, ValueError, configparser.Error) as error:  # texts and TOML that are none are ValueErrors
        raise ConfigError(f"The config file {file} cannot be read: {error}") from error


def _toml_tables(text: str) -> dict[str, dict[str, object]]:
    try:
        import tomllib
    except ImportError as error:  # Python 3.10
        raise MissingDependencyError("A config file in TOML needs Python 3.11: write it as .cfg.") from error
    found = tomllib.loads(text)
    for name, items in found.items():
        if not isinstance(items, dict):
            raise ValueError(f"{name!r} stands in no section. Write [SECTION] above it.")
    return found


def _referred(parser: configparser.ConfigParser, section: str, key: str) -> str:
    """The value with `%(key)s` and `${VARIABLE}` in it replaced, as Luigi does; other `%` stand for themselves."""
    try:
        return parser.get(section, key)
    except configparser.InterpolationSyntaxError:
        return parser.get(section, key, raw=True)


def __getattr__(name: str) -> Any:
    """`SUPERLUIGI_…`, the value in force of a setting under the name of its environment variable."""
    setting = next((known for known in SETTINGS.values() if known.variable == name), None)
    if setting is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return get(setting.name)
