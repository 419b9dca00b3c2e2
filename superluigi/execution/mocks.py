"""Luigi's targets that live in a process, `MockTarget` and `RunAnywayTarget`, in the processes of a run.

What one of our processes writes to a mock file, all of this run see, as under Luigi's workers: the files are a proxy of
a server that this process has started. Other executors' processes cannot reach it: there such an output is refused.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from dataclasses import dataclass

from luigi.task import Task

from superluigi import graph
from superluigi.errors import ExecutionError


@dataclass(frozen=True)
class ExportedMocks:
    """What another process needs to see the same."""

    #: The key of the server of mock files, and their proxy; None where they are not used, or out of reach.
    files: tuple[bytes, bytes] | None
    #: The number of this execution in the paths of `RunAnywayTarget`; 0 where they are not used.
    execution: int


def export_files(near: bool) -> ExportedMocks:
    """To be sent along; `near`: to processes that we start ourselves."""
    files = None
    if near and "luigi.mock" in sys.modules:
        from luigi.mock import MockFileSystem

        files = bytes(multiprocessing.current_process().authkey), pickle.dumps(MockFileSystem().get_all_data())
    execution = 0
    if "luigi.contrib.simulate" in sys.modules:
        from luigi.contrib.simulate import RunAnywayTarget

        execution = int(RunAnywayTarget.unique.value)
    return ExportedMocks(files, execution)


def import_files(what: ExportedMocks) -> None:
    """See what the exporting process sees."""
    if what.execution:
        from luigi.contrib.simulate import RunAnywayTarget

        RunAnywayTarget.unique.value = what.execution
    if what.files is not None:
        from luigi.mock import MockFileSystem

        # the server asks for its key
        multiprocessing.current_process().authkey, dumped = what.files
        MockFileSystem._data = pickle.loads(dumped)


def refuse_out_of_reach(task: Task, where: str) -> None:
    """For executors whose processes do not share the memory of mock files.

    Raises:
        ExecutionError: `task` reads or writes some.
    """
    mock = sys.modules.get("luigi.mock")
    if mock is None:
        return
    outputs = [target for each in (task, *task.deps()) for target in graph.flatten(each.output())]
    if any(isinstance(target, mock.MockTarget) for target in outputs):
        raise ExecutionError(
            f"{task} uses a MockTarget, which lives in the memory of this process: tasks on {where} do not see it. Run "
            "with executor='threads' or 'processes', or give it a target that is a file."
        )
