"""A process that imports a program for its tasks' sake does not start the runs that the program starts.

A worker process imports the module of a task; when that module starts a run at its end, without
`if __name__ == "__main__"`, the run's own workers would import it again, and so on without end.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

from superluigi.errors import UnguardedScriptError

#: Threads that import at the moment, each as often as it has begun to.
_importing: list[int] = []


@contextlib.contextmanager
def only_importing(arguments: Sequence[str] = ()) -> Iterator[None]:
    """While this is open, what this thread imports may define tasks, but start nothing.

    It finds `arguments` in `sys.argv`: a module may read them when it is imported, and ours mean nothing to it.

    Raises:
        UnguardedScriptError: the module ends the process.
    """
    here = threading.get_ident()
    before = sys.argv
    sys.argv = list(arguments or before[:1])
    _importing.append(here)
    try:
        yield
    except SystemExit as error:
        raise UnguardedScriptError(
            f"{_module_of(error)} ends the process (SystemExit: {error.code}) when it is imported with the arguments "
            f"{sys.argv[1:]}. If it reads its command line or runs a program there, put that under "
            "`if __name__ == '__main__':`."
        ) from error
    finally:
        _importing.remove(here)
        sys.argv = before


def refuse_if_importing(*what: object) -> None:
    """To be called where runs begin; `what`, in parts, is being started.

    Raises:
        UnguardedScriptError: a module starts it that is only being imported.
    """
    here = threading.get_ident() in _importing or (_importing and _being_imported())
    if here or _multiprocessing_imports():
        raise UnguardedScriptError(
            f"An attempt has been made to start {''.join(map(str, what))} while this process only imports {_module()} "
            "for what it defines: it is a worker process, or a command that looks for a task. This probably means that "
            "you have forgotten to use the proper idiom in that module:\n\n"
            "    if __name__ == '__main__':\n"
            "        run_task(...)\n\n"
            "Put what starts runs under it; what defines tasks stays outside."
        )


def _multiprocessing_imports() -> bool:
    """Whether `multiprocessing` has started this process (spawn, forkserver; loky, too), which now imports main."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def _being_imported() -> list[str]:
    """Files of modules that are being imported and whose code this thread runs, which another one may have started."""
    frames = [frame for frame, _ in traceback.walk_stack(None)]
    return [
        frame.f_code.co_filename for frame in frames if getattr(frame.f_globals.get("__spec__"), "_initializing", False)
    ]


def _module() -> str:
    """The file whose body runs, as far as the stack tells."""
    bodies = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(None) if _is_body(frame)]
    return next(iter(bodies or _being_imported()), "a module")


def _module_of(error: BaseException) -> str:
    bodies = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__) if _is_body(frame)]
    return bodies[-1] if bodies else "A module"


def _is_body(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return frame.f_code.co_name == "<module>" and not name.startswith(("superluigi.", "argparse"))
