"""Where a task ran, as records keep it: Python, platform, host, user and the packages its code uses."""

from __future__ import annotations

import functools
import getpass
import importlib.metadata
import platform
import re
import socket
import sys
from collections.abc import Iterable

from superluigi.jsonable import Jsonable, Shared
from superluigi.lineage.code_fingerprint.reach import reached

#: Versions that every record tells; a change of these alone never makes an output stale.
ALWAYS = ("luigi", "superluigi")


def environment(task: object = None) -> dict[str, object]:
    """`python`, `platform`, `host`, `user` and `packages` (distribution -> version).

    With a task (instance or class), the packages are those that its code, as far as it is reached,
    names directly; without one, those that this process has imported. Never an environment variable.
    """
    if task is None:
        return Jsonable({**_fixed(), "packages": _versions(frozenset(_imported()))})
    return _with_packages(reached(task if isinstance(task, type) else type(task)).packages)


@functools.lru_cache(maxsize=1024)
def _with_packages(tops: frozenset[str]) -> Shared:
    return Shared({**_fixed(), "packages": _versions(tops)})


def packages(task: object) -> dict[str, str]:
    """The packages (distribution -> version) that the code of a task, instance or class, names directly."""
    cls = task if isinstance(task, type) else type(task)
    return _versions(reached(cls).packages)


@functools.lru_cache(maxsize=1)
def _fixed() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": _user(),
    }


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an unnamed user id, as in many containers
        return None


def _imported() -> Iterable[str]:
    tops = {name.split(".")[0] for name in list(sys.modules)}
    return (top for top in tops if top not in sys.stdlib_module_names and not top.startswith("_"))


def _versions(tops: frozenset[str]) -> dict[str, str]:
    return dict(_versions_of(tops))


@functools.lru_cache(maxsize=1024)
def _versions_of(tops: frozenset[str]) -> dict[str, str]:
    names = {name for top in (*ALWAYS, *tops) for name in _distributions(top)}
    return {name: version for name in sorted(names) if (version := _version(name))}


@functools.lru_cache(maxsize=4096)
def _distributions(top: str) -> tuple[str, ...]:
    """The distributions that provide a top-level module; most are called like it, which is quick to ask."""
    if _version(top) is not None:
        return (top,)
    found = (name for name, files in _installed_files() if f"\n{top}/" in files or f"\n{top}." in files)
    return tuple(dict.fromkeys(found))[:3]  # a namespace package may belong to dozens


@functools.lru_cache(maxsize=4096)
def _version(name: str) -> str | None:
    """The version of an installed distribution. `importlib.metadata.version` parses the whole of its METADATA, a long
    description included: ten times slower."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    told = re.search(r"^Version: *(\S+)", distribution.read_text("METADATA") or "", re.MULTILINE)
    return told[1] if told else distribution.version


@functools.lru_cache(maxsize=1)
def _installed_files() -> tuple[tuple[str, str], ...]:
    # importlib.metadata.packages_distributions() answers the same, but parses every line: 20 times slower
    return tuple(
        (one.metadata["Name"], "\n" + (one.read_text("RECORD") or "")) for one in importlib.metadata.distributions()
    )
