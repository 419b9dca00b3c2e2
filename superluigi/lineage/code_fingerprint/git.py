"""Which commit of which repository a folder is at, asked of the `git` program once in a while."""

from __future__ import annotations

import functools
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from superluigi import config

NOTHING: Mapping[str, object] = {"repo": None, "commit": None, "branch": None, "dirty": None}
_FRESH_S = 60.0
_TIMEOUT_S = 5.0


def state(folder: str) -> Mapping[str, object]:
    """`repo`, `commit`, `branch` and `dirty` of the work tree around a folder; None where unknown.

    `dirty` counts tracked files only. The answer is kept for a minute: a run asks thousands of times.
    """
    return _state(folder, int(time.monotonic() / _FRESH_S))


@functools.lru_cache(maxsize=256)
def _state(folder: str, _period: int) -> Mapping[str, object]:
    root = root_of(folder)
    if root is None:
        return NOTHING
    return _read(root, _period)


@functools.lru_cache(maxsize=1024)
def root_of(folder: str) -> str | None:
    """The work tree around a folder; None if there is none."""
    for candidate in (Path(folder), *Path(folder).parents):
        if (candidate / ".git").exists():
            return str(candidate)
    return None


@functools.lru_cache(maxsize=64)
def _read(root: str, _period: int) -> dict[str, object]:
    asked = _ask(root, "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules")
    origin = _ask(root, "config", "--get", "remote.origin.url")  # at the same time: each takes milliseconds
    status, remote = _answer(asked), _answer(origin)
    if status is None:
        return dict(NOTHING)
    found: dict[str, object] = dict(NOTHING, dirty=False)
    for line in status.splitlines():
        if line.startswith("# branch.oid ") and "(initial)" not in line:
            found["commit"] = line.split()[2]
        elif line.startswith("# branch.head ") and "(detached)" not in line:
            found["branch"] = line.split(maxsplit=2)[2]
        elif line and not line.startswith("#"):
            found["dirty"] = True
    found["repo"] = without_credentials(remote.strip()) if remote and remote.strip() else None
    return found


def _ask(root: str, *arguments: str) -> subprocess.Popen[str] | None:
    # Repository variables of a surrounding git hook would point elsewhere; locks would disturb its user.
    environment = {k: v for k, v in config.environment().items() if not re.match(r"GIT_(DIR|WORK_TREE|INDEX_FILE)$", k)}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.Popen(
            ["git", "-C", root, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=environment,
        )
    except OSError:
        return None  # no git here: the record says "unknown"


def _answer(git: subprocess.Popen[str] | None) -> str | None:
    if git is None:
        return None
    with git:
        try:
            said, _ = git.communicate(timeout=_TIMEOUT_S)
        except BaseException as error:
            git.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                return None  # a repository too slow to ask
            raise
    return said if git.returncode == 0 else None


def without_credentials(url: str) -> str:
    """A repository address without user names, passwords and tokens; `git@host:path` stays as it is."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "ssh" and "@" in parts.netloc:
        user = parts.netloc.rpartition("@")[0].partition(":")[0]
        host = f"{user}@{host}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
