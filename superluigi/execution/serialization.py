"""An attempt as bytes: everything it needs to be run in another process, and its outcome back."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from luigi.task import Task

from superluigi import config as settings
from superluigi.errors import ConfigError, ExecutionError
from superluigi.execution import main_names, mocks, pickling
from superluigi.execution.addresses import Addresses
from superluigi.execution.attempt import AttemptResult, run_attempt
from superluigi.execution.importing import only_importing
from superluigi.execution.messages import messenger
from superluigi.execution.process import process_state
from superluigi.execution.process.parent import parent
from superluigi.runs import logs
from superluigi.runs.context import RunContext

#: The message that an attempt begins now.
BEGIN = "begin"


@dataclass(frozen=True)
class WorkerEnvironment:
    """What a fresh process must know before tasks of the caller can run in it."""

    sys_path: tuple[str, ...]
    #: Luigi's configuration as it stands in the caller: section → option → raw value.
    config: dict[str, dict[str, str]]
    log_level: int
    #: The caller's command line, for modules that read it when they are imported.
    arguments: tuple[str, ...]
    #: The process is one that we start on this machine.
    near: bool
    #: The caller's current folder: what relative outputs mean.
    folder: str
    #: What the caller's script or notebook defines.
    main: main_names.Main
    #: Luigi's mock files, for processes of this machine that we start.
    mocks: mocks.ExportedMocks

    @staticmethod
    def current(near: bool) -> WorkerEnvironment:
        level = logs.logger.getEffectiveLevel()
        return WorkerEnvironment(
            sys_path=tuple(sys.path),
            config=settings.raw_sections(),
            log_level=level,
            arguments=tuple(sys.argv),
            near=near,
            folder=os.getcwd(),
            main=main_names.collected(Task),
            mocks=mocks.export_files(near),
        )

    def apply(self) -> None:
        sys.path.extend(entry for entry in self.sys_path if entry not in sys.path)
        _arguments[:] = self.arguments
        settings.import_sections(self.config)
        logs.logger.setLevel(self.log_level)
        with contextlib.suppress(*() if self.near else (ConfigError,)):  # another host may lack the file
            _logging.enter_context(logs.as_told())
        mocks.import_files(self.mocks)
        if self.near:
            sys.argv = list(self.arguments)
            os.chdir(self.folder)


#: Set up once and for all: this process only runs tasks.
_logging = contextlib.ExitStack()


@dataclass(frozen=True)
class LoadFailure:
    """The answer of a process that could not even unpickle the task."""

    reason: str
    host: str


@dataclass(frozen=True)
class AttemptRequest:
    """What differs from attempt to attempt."""

    task: Task
    check: tuple[Task, ...]
    known: frozenset[str]
    worker_id: str
    check_complete_on_run: bool
    process_context: str | None
    #: Where the caller says that outputs and inputs are.
    expected: Addresses | None = None
    #: Tell the parent (`BEGIN`) when the attempt begins: start-up does not count for a time limit.
    report_start: bool = False


_prepared: dict[bytes, RunContext] = {}
#: Those of the caller.
_arguments: list[str] = []


def load_context(context: bytes) -> RunContext:
    """Apply the environment and the run of the caller, once per process; cheap when repeated.

    An empty context stands for the one that was prepared last.
    """
    run = _prepared.get(context) if context else next(iter(_prepared.values()))
    if run is None:
        environment, dumped_run = pickle.loads(context)
        if environment.main.pid != os.getpid():
            process_state.IN_A_WORKER.set()
        environment.apply()
        with importing_as_the_caller():
            main_names.install(environment.main, pickling.loads, environment.near)
        with importing_as_the_caller():
            run = pickling.loads(dumped_run)
        _prepared.clear()
        _prepared[context] = run
    return run


def importing_as_the_caller() -> contextlib.AbstractContextManager[None]:
    """To unpickle what imports the caller's modules."""
    return only_importing(_arguments)


def dump_context(run: RunContext, near: bool = False) -> bytes:
    """The part that all attempts of a run share; `near`: for processes that we start ourselves."""
    return pickle.dumps((WorkerEnvironment.current(near), pickling.dumps(run)))


def dump_request(request: AttemptRequest) -> bytes:
    """Pickle a request; tasks whose own state does not pickle travel as class and parameters.

    Raises:
        ExecutionError: these do not either.
    """
    try:
        return pickling.dumps(request)
    except Exception:  # noqa: BLE001 - any failure of foreign __reduce__ code
        bare = replace(request, task=_TaskSpec.of(request.task), check=tuple(_TaskSpec.of(t) for t in request.check))
    try:
        return pickling.dumps(bare)
    except Exception as error:
        raise ExecutionError(
            f"{request.task} cannot be sent to another process: {error}. Give it parameters that can be pickled, or "
            'have its class run in threads (executor = "threads").'
        ) from error


class _TaskSpec:
    """Pickles as a call that makes the task again from its parameters."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @staticmethod
    def of(task: Task) -> Any:
        return _TaskSpec(task)

    def __reduce__(self) -> tuple[Callable[..., Task], tuple[object, ...]]:
        return _again, (type(self._task), self._task.param_kwargs)


def _again(task_class: type[Task], parameters: Mapping[str, object]) -> Task:
    return task_class(**parameters)


def run_request(context: bytes, dumped: bytes, spool: str | None = None) -> AttemptResult | LoadFailure:
    """Run one attempt in this process; messages go to the parent process, or to the file `spool`."""
    run = load_context(context)
    try:
        with importing_as_the_caller():
            request: AttemptRequest = pickling.loads(dumped)
    except (ImportError, AttributeError) as error:
        return LoadFailure(f"{type(error).__name__}: {error}", AttemptResult("", "").host)
    main_names.adopt(type(request.task))
    task_id = request.task.task_id
    if request.report_start:
        parent.send((task_id, BEGIN, ()))
    with logs.keeping(), messenger(task_id, bool(request.task.accepts_messages), spool) as reporter:
        outcome = run_attempt(
            request.task,
            run,
            check=request.check,
            expected=request.expected,
            known=request.known,
            reporter=reporter,
            worker_id=request.worker_id,
            collect_events=True,
            check_complete_on_run=request.check_complete_on_run,
            process_context=request.process_context,
            waits=False,
        )
    return outcome.picklable()


def call(context: bytes, request: bytes) -> bytes:
    """`run_request(context, request)`, pickled as a ProcessExecutor wants it."""
    return pickle.dumps((run_request, (context, request), {}))


def pickle_by_value(tasks: Iterable[Task]) -> None:
    """From now on, pickle the classes of `tasks` by value: their modules cannot be imported there."""
    for task in tasks:
        module = sys.modules.get(type(task).__module__)
        if module is not None and module.__name__ != "__main__":
            cloudpickle.register_pickle_by_value(module)
