"""`rerun.py` in a task's folder: runs the task again by hand, in one process, with a debugger."""

from __future__ import annotations

import functools
import inspect
import os
import pprint
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from superluigi.errors import ParameterError
from superluigi.runs.context import RunContext

_SCRIPT = '''"""Run {task} again by hand: `python {name}`.

It runs in this process, without its command_prefix, whether or not its output exists, and commits as always. An error
ends in the debugger; `python -m pdb {name}` steps from the start. {attempt}
"""

from superluigi.tasks.runtime.own_process import by_hand

if __name__ == "__main__":
    by_hand(
{arguments}
    )
'''


def arguments(task: luigi.Task, run: RunContext) -> dict[str, object]:
    """What the script needs to know, as JSON; parameters of private visibility are not in it."""
    hidden = {n for n, p in task.get_params() if p.visibility == ParameterVisibility.PRIVATE}
    return {
        "shown": repr(task),
        "module": type(task).__module__,
        "file": _file_of(type(task)),
        "task": task.get_task_family(),
        "params": {key: text for key, text in task.to_str_params().items() if key not in hidden},
        "folder": (here := os.getcwd()),
        "path": _own_path(tuple(sys.path), here),
        "store": run.store,
    }


def script(arguments: Mapping[str, Any], attempt: str, name: str = "rerun.py") -> str:
    """The text of `rerun.py`."""
    lines = [f"        {key}={_literal(value)}," for key, value in arguments.items() if key != "shown"]
    shown = arguments["shown"].replace("\\", "\\\\").replace('"""', "'''").replace("\0", "\\0")
    shown = shown.encode("utf-8", "backslashreplace").decode()  # half characters are no text of a file
    return _SCRIPT.format(task=shown, name=name, attempt=attempt, arguments="\n".join(lines))


@functools.lru_cache(maxsize=1024)
def _file_of(cls: type) -> str | None:
    """Where the class was written; `__main__` of a worker process is not the script that defined it."""
    for base in cls.__mro__:
        code = getattr(inspect.unwrap(vars(base).get("run", base)), "__code__", None)
        if base.__module__ == cls.__module__ and code is not None:
            return os.path.abspath(str(code.co_filename))
    file: str | None = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return None if file is None else os.path.abspath(file)


def _literal(value: object) -> str:
    return pprint.pformat(value, width=100, sort_dicts=False).replace("\n", "\n" + " " * 12)


@functools.lru_cache(maxsize=16)
def _own_path(path: tuple[str, ...], folder: str) -> list[str]:
    """The import `path`, less what every process of this Python has."""
    shared = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    entries = [os.path.normpath(os.path.join(folder, entry)) for entry in path]
    return list(dict.fromkeys(entry for entry in entries if not entry.startswith(shared)))


def task_again(module: str, file: str | None, task: str, params: Mapping[str, str], path: Sequence[str]) -> luigi.Task:
    """The task that `script` described.

    Raises:
        ParameterError: its class cannot be found again.
    """
    from luigi.task_register import Register

    sys.path[:0] = [entry for entry in path if entry not in sys.path]
    if module == "__main__":
        if file is None or not Path(file).is_file():
            raise ParameterError(f"{task} was defined in a session, not in a file, so it cannot be run again by hand.")
        import runpy

        runpy.run_path(file, run_name="superluigi_rerun")  # not __main__: what the script starts must not start
    else:
        import importlib

        importlib.import_module(module)
    found: luigi.Task = Register.get_task_cls(task).from_str_params(params)
    return found
