"""Luigi's configuration, asked: what cannot be read or used of it is told with its file, its line and what to do."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal

from superluigi.errors import ConfigError, SuperLuigiError, message_of

#: What Luigi raises of its configuration.
ERRORS = (AssertionError, ValueError, configparser.Error)
_OF_A_PARAMETER = re.compile(r"(\w+)\[.*\]: Error when parsing the default value of '(\w+)'", re.DOTALL)


def value(section: str, option: str, default: object = None, kind: Literal["", "boolean", "int", "float"] = "") -> Any:
    """What `[section] option` says, else `default`.

    Raises:
        ConfigError: it cannot be understood.
    """
    from luigi.configuration import get_config

    with understood(section, option):
        return getattr(get_config(), f"get{kind}")(section, option, default)


@contextlib.contextmanager
def understood(section: str = "", option: str = "") -> Iterator[None]:
    """What Luigi finds wrong with its configuration in the block, as advice: about `option`, where it does not say.

    Raises:
        ConfigError: says which option, and where it stands.
    """
    try:
        yield
    except ERRORS as error:
        if isinstance(error, SuperLuigiError):
            raise
        raise _unusable(error, section, option) from error


def _unusable(error: BaseException, section: str, option: str) -> ConfigError:
    parameter = _OF_A_PARAMETER.match(str(error))
    if parameter:
        section, option = parameter.groups()
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, configparser.InterpolationError):
        section, option = error.section, error.option.replace("-", "_")
    where = _file_and_line(section, option) if option else ""
    named = f"[{section}] {option}".strip() if section else ""
    said = f"{named}{where and f' ({where})'}{':' if option else ''} {message_of(error)}".strip()
    return ConfigError(f"Luigi's configuration cannot be used: {said}. Correct it, or take it out.")


def told_at_import(error: BaseException) -> ConfigError | None:
    """The same of an error that has ended `import luigi`, which reads the files; None if about other things.

    What Luigi has read of them is forgotten, so that the next import reads them from the beginning.
    """
    if "luigi" in sys.modules or not (isinstance(error, ERRORS) and _parsers()):
        return None
    file = next((path for path in _paths() if not _is_readable(path)), None)
    if file is None:  # an option that Luigi asks for by itself
        told = _unusable(error, "core", "autoload_range")
    else:
        named = "" if file in str(error) else f"{file}: "
        said = f"{named}{type(error).__name__}: {message_of(error)}"
        told = ConfigError(f"Luigi's configuration cannot be read ({said}). Correct its file, or take it away.")
    for name in [name for name in sys.modules if name.startswith("luigi.")]:
        del sys.modules[name]
    return told


def _parsers() -> list[Any]:
    """Luigi's classes, as far as it has been imported."""
    known = {"cfg_parser": "LuigiConfigParser", "toml_parser": "LuigiTomlParser"}
    modules = {name: sys.modules.get(f"luigi.configuration.{name}") for name in known}
    return [getattr(module, known[name]) for name, module in modules.items() if module is not None]


def _paths() -> list[str]:
    return [path for parser in _parsers() for path in parser._config_paths if os.path.isfile(path)]


def _is_readable(path: str) -> bool:
    try:
        for parser in _parsers():
            if path in parser._config_paths:
                parser().read([path])
    except Exception:  # noqa: BLE001 - whatever a parser raises
        return False
    return True


def _file_and_line(section: str, option: str) -> str:
    """File and line of an option whose value stands in a file; "" where it comes from elsewhere."""
    try:  # also where `import luigi` itself has ended with the error
        text = str(sys.modules["luigi.configuration"].get_config().get(section, option, raw=True))
    except (LookupError, configparser.Error):
        return ""
    for path in reversed(_paths()):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8-sig") as file:
            here = ""
            for number, line in enumerate(file, 1):
                if header := re.match(r"\[(.+)\]", line):
                    here = header[1]
                key, _, found = re.sub(r"\s*[=:]\s*", "=", line.strip(), count=1).partition("=")
                if here in (section, "DEFAULT") and key.replace("-", "_") == option and found == text:
                    return f"{path}, line {number}"
    return ""
