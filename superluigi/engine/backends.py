"""Where attempts run: this thread, or an executor with the way in and the way back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from luigi.parameter import Parameter
from luigi.task import Task
from luigi.task_status import DONE

from superluigi import execution, graph
from superluigi.errors import (
    ExecutionError,
    OptionError,
    SharedStorageError,
    SuperLuigiError,
    WorkerLostError,
    message_of,
)
from superluigi.execution import mocks, pickling, serialization
from superluigi.execution.attempt import AttemptResult
from superluigi.execution.messages import MessageFile, MessageFileReader, Told, inbox_path
from superluigi.execution.process.signals import no_second_interrupt
from superluigi.execution.threads import ThreadExecutor
from superluigi.runs import alone
from superluigi.runs.context import RunContext
from superluigi.worker_process import bounded
from superluigi.worker_process.pool import OnMessage, ProcessExecutor

#: How long a file system may take to show what another host has written (NFS attribute caches).
VISIBLE_WITHIN_SECONDS = 2.0


def refuse_other_than_futures(given: object, executor: object) -> None:
    """Refuse what cannot tell when it ends.

    Raises:
        OptionError: `submit` has given something else than `concurrent.futures` has, or asyncio's kind of a future.
    """
    if not callable(getattr(given, "add_done_callback", None)) or asyncio.isfuture(given):
        raise OptionError(
            f"submit() of the executor {type(executor).__name__} gave a {type(given).__name__}. It must give a "
            "concurrent.futures.Future that ends, with what the call returned or raised, however that went."
        )


def explained(error: BaseException) -> BaseException:
    """The error of an executor that was shut down before it was given to us, as advice; any other as it is."""
    if isinstance(error, RuntimeError) and "after shutdown" in str(error):
        told = OptionError(
            f"The executor has been shut down ({error}). Run inside its `with` block, or give the name of an executor: "
            "'threads', 'processes'."
        )
        told.__cause__ = error
        return told
    return error


class AttemptLost(Exception):  # noqa: N818 - it never leaves this package
    """No outcome came back; with `resend`, sending the attempt again may help."""

    def __init__(self, error: BaseException, resend: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.resend = resend


class ExecutorBackend:
    """This thread: the attempt is made by calling it."""

    inline = True
    shares_memory = True
    #: Whether the backend itself ends an attempt at its time limit, where it runs.
    enforces_timeout = False
    #: Whether a request that asks for it is answered with `BEGIN` when the attempt begins.
    reports_start = False
    executor: Executor
    #: Whether the executor is ours to shut down.
    _ours = False

    #: Whether what runs here hears of an interruption only by being told: in processes that others have started.
    must_be_told = False

    @property
    def outlives_us(self) -> bool:
        """Whether the executor is not ours to end."""
        return not self._ours

    def submit_request(self, task: Task, check: list[Task], known: frozenset[str], **options: Any) -> Future[object]:
        raise NotImplementedError

    def open(self, future: Future[Any], task: Task) -> AttemptResult:
        """What came of an ended attempt.

        Raises:
            AttemptLost: nothing came back.
        """
        outcome: AttemptResult = future.result()
        return outcome

    def end(self, future: Future[object], error: BaseException) -> bool:
        """End a running attempt; False when this backend cannot."""
        return False

    def resize(self, max_workers: int) -> None:
        """Run up to `max_workers` attempts at once, if this backend can."""

    def send(self, future: Future[object] | None, task_id: str, told: Told) -> bool:
        """Give the task of an unfinished attempt a message of the scheduler; False when this one cannot hear it.

        Only for backends that share no memory.
        """
        return False

    def abort(self) -> None:
        """End everything that runs here, within seconds, and free what the backend holds."""

    def close(self) -> None:
        """Free what the backend holds, once nothing runs; an executor of the user's stays open."""
        if self._ours:
            self.executor.shutdown(wait=True)

    def poll_messages(self) -> Iterator[tuple[str, str, list[object]]]:
        """Messages that arrived by another way than `on_message`."""
        return iter(())


class ThreadBackend(ExecutorBackend):
    """Threads of this process."""

    inline = False

    def __init__(self, executor: Executor, ours: bool) -> None:
        self.executor = executor
        self._ours = ours

    def resize(self, max_workers: int) -> None:
        if self._ours and isinstance(self.executor, ThreadExecutor):
            self.executor.resize(max_workers)

    def abort(self) -> None:
        if isinstance(self.executor, ThreadExecutor):
            self.executor.abort()


class ProcessBackend(ExecutorBackend):
    """Our own processes on this machine."""

    inline = False
    shares_memory = False
    reports_start = True
    executor: ProcessExecutor

    def __init__(self, executor: ProcessExecutor, run: RunContext, ours: bool) -> None:
        self.executor = executor
        self._ours = ours
        self.must_be_told = not ours
        self._context = serialization.dump_context(run, near=ours)
        if ours:
            executor.initialize(serialization.load_context, self._context)
            self._context = b""

    def submit_request(
        self,
        task: Task,
        check: list[Task],
        known: frozenset[str],
        *,
        on_message: OnMessage | None = None,
        **options: Any,
    ) -> Future[object]:
        options["report_start"] = bool(options.pop("timeout", 0) or options.get("report_start"))
        request = serialization.dump_request(serialization.AttemptRequest(task, tuple(check), known, **options))
        return self.executor.submit_call(serialization.call(self._context, request), on_message)

    def open(self, future: Future[Any], task: Task) -> AttemptResult:
        try:
            answer = future.result()
        except SuperLuigiError as error:
            raise AttemptLost(error) from error
        return _opened(answer, task)

    def end(self, future: Future[object], error: BaseException) -> bool:
        return self.executor.end(future, error)

    def resize(self, max_workers: int) -> None:
        if self._ours:
            self.executor.resize(max_workers)

    def send(self, future: Future[object] | None, task_id: str, told: Told) -> bool:
        return future is not None and self.executor.send(future, task_id, told)

    def abort(self) -> None:
        if self._ours:
            self.executor.abort()


class ExternalBackend(ExecutorBackend):
    """Any other executor: a process pool of the standard library, Dask, Ray, MPI, Slurm."""

    inline = False
    shares_memory = False
    must_be_told = True
    enforces_timeout = True

    def __init__(self, executor: Executor, run: RunContext, ours: bool) -> None:
        self.executor = executor
        self._ours = ours
        self._run = run
        self._context = serialization.dump_context(run)
        self._spool: MessageFileReader | None = None
        self._options = getattr(executor, "options_for", None)

    def submit_request(
        self,
        task: Task,
        check: list[Task],
        known: frozenset[str],
        *,
        on_message: OnMessage | None = None,
        **options: Any,
    ) -> Future[object]:
        timeout = options.pop("timeout", 0)
        mocks.refuse_out_of_reach(task, type(self.executor).__name__)
        alone_there = alone.needs_process(task, self._run)
        request = serialization.dump_request(serialization.AttemptRequest(task, tuple(check), known, **options))
        inbox_path(self._messages(), task.task_id).unlink(missing_ok=True)  # what an earlier attempt was told
        extra = self._options(task.process_resources()) if self._options is not None else {}
        return self.executor.submit(
            bounded.run_request_bounded, self._context, request, str(self._messages()), timeout, alone_there, **extra
        )

    def open(self, future: Future[Any], task: Task) -> AttemptResult:
        try:
            answer = future.result()
        except SuperLuigiError as error:
            raise AttemptLost(error) from error
        except (ModuleNotFoundError, AttributeError) as error:
            serialization.pickle_by_value([task])
            raise AttemptLost(error, resend=True) from error
        except BrokenProcessPool as error:
            raise AttemptLost(_broken_pool()) from error
        except CancelledError as error:
            raise AttemptLost(
                ExecutionError(f"{type(self.executor).__name__} gave up this attempt: {error}")
            ) from error
        except Exception as error:  # whatever its own protocol calls it
            raise AttemptLost(error) from error
        if not isinstance(answer, bytes):
            raise AttemptLost(
                OptionError(
                    f"The executor {type(self.executor).__name__} ended the future of {task} with a "
                    f"{type(answer).__name__}, not with what the call returned. Does it run `fn(*args, **kwargs)` "
                    "once, and set_result() what that gives?"
                )
            )
        outcome = _opened(pickling.loads(answer), task)
        if outcome.status == DONE:
            _check_visible(task, outcome.host)
        return outcome

    def end(self, future: Future[object], error: BaseException) -> bool:
        cancel = getattr(self.executor, "cancel_running", None)
        return bool(cancel(future, error)) if cancel is not None else future.cancel()

    def abort(self) -> None:
        self.close(wait=False)

    def close(self, wait: bool = True) -> None:
        if self._ours:
            self.executor.shutdown(wait=wait, cancel_futures=not wait)
        if self._spool is not None:
            for path in self._spool.path.parent.glob(f"{self._spool.path.name}*"):
                path.unlink(missing_ok=True)
            self._spool = None

    def _messages(self) -> Path:
        if self._spool is None:
            descriptor, name = tempfile.mkstemp(prefix="superluigi-messages-")
            os.close(descriptor)
            self._spool = MessageFileReader(Path(name))
        return self._spool.path

    def send(self, future: Future[object] | None, task_id: str, told: Told) -> bool:
        if future is None or future.done():
            return False
        path = inbox_path(self._messages(), task_id)
        path.touch(mode=0o600)
        MessageFile(path).append(told)
        return True

    def poll_messages(self) -> Iterator[tuple[str, str, list[object]]]:
        if self._spool is not None:
            yield from self._spool.new()


class BackendRegistry:
    """The executors of one run, made when a task first needs them."""

    def __init__(self, run: RunContext, executor: object, max_workers: int) -> None:
        execution.refuse_unknown(executor)
        self._run = run
        self._default = executor
        self._max_workers = max(1, max_workers)
        self._made: dict[object, ExecutorBackend] = {}
        #: Why an executor cannot be had: that may take long to find out, and is not asked for each task anew.
        self._refused: dict[object, Exception] = {}
        self._inline = ExecutorBackend()

    def resize(self, max_workers: int) -> None:
        """Have as many workers from now on; executors that are not ours keep their size."""
        self._max_workers = max(1, max_workers)
        for backend in self._made.values():
            backend.resize(self._max_workers)

    def for_task(self, task: Task, timeout: float = 0, never_inline: bool = False) -> ExecutorBackend:
        """Where `task` runs: where its class asks to, else where the run does.

        `never_inline` is Luigi's `force_multiprocessing`. A time limit needs something that can be ended, so that
        tasks with one leave this process; what changes the environment, or sets signal handlers, leaves threads.

        Raises:
            ExecutionError: its class asks for an executor that cannot be had.
            SuperLuigiError: the executor of the run cannot be had.
        """
        spec = self._spec(task, never_inline)
        threads = spec == "threads" or isinstance(spec, (ThreadExecutor, ThreadPoolExecutor))
        if spec == "inline" and threading.current_thread() is not threading.main_thread():
            threads = True
        if (timeout and (threads or spec == "inline")) or (threads and alone.needs_process(task, self._run)):
            spec = "processes"
        if spec == "inline":
            return self._inline
        try:
            return self._backend(spec)
        except Exception as error:
            if spec == self._default:
                raise
            raise ExecutionError(f"{task} asks for an executor that cannot be had: {message_of(error)}") from error

    def prestart(self, task: Task, count: int) -> None:
        """Start `count` processes in the background, if that is where tasks like `task` are going to run."""
        if self._spec(task) == "processes":
            backend = self._backend("processes")
            if isinstance(backend, ProcessBackend):
                backend.executor.prestart(count)

    def _spec(self, task: Task, never_inline: bool = False) -> object:
        asked = getattr(type(task), "executor", None)
        spec = self._default if asked is None or isinstance(asked, (Parameter, property)) else asked
        if spec is None:
            spec = "processes" if never_inline or self._max_workers > 1 else "inline"
        return spec

    def _backend(self, spec: object) -> ExecutorBackend:
        key = spec if isinstance(spec, str) else id(spec)
        if key in self._refused:
            raise self._refused[key]
        backend = self._made.get(key)
        if backend is None:
            try:
                executor, ours = execution.make(spec, self._max_workers)
            except Exception as error:
                self._refused[key] = error
                raise
            backend = self._made[key] = self._wrap(executor, ours)
        return backend

    def _wrap(self, executor: Executor, ours: bool) -> ExecutorBackend:
        if isinstance(executor, (ThreadExecutor, ThreadPoolExecutor)):
            return ThreadBackend(executor, ours)
        if isinstance(executor, ProcessExecutor):
            return ProcessBackend(executor, self._run, ours)
        return ExternalBackend(executor, self._run, ours)

    def poll_seconds(self) -> float:
        """How often `poll_messages` wants to be asked."""
        return 0.2 if any(isinstance(backend, ExternalBackend) for backend in self._made.values()) else 3600.0

    def poll_messages(self) -> Iterator[tuple[str, str, list[object]]]:
        for backend in list(self._made.values()):
            yield from backend.poll_messages()

    def drop(self, backend: ExecutorBackend) -> None:
        """Shut down an executor in which a call goes on that is not waited for any more."""
        for key, made in self._made.copy().items():
            if made is backend:
                del self._made[key]
                backend.abort()

    def close(self, abort: bool = False) -> None:
        """Shut down the executors that we made; with `abort`, end what runs in them."""
        with no_second_interrupt() if abort else contextlib.nullcontext():
            while self._made:
                _, backend = self._made.popitem()
                if abort:
                    backend.abort()
                else:
                    backend.close()


def _opened(answer: AttemptResult | serialization.LoadFailure | SuperLuigiError, task: Task) -> AttemptResult:
    if isinstance(answer, SuperLuigiError):
        raise AttemptLost(answer)
    if isinstance(answer, serialization.LoadFailure):
        serialization.pickle_by_value([task])
        message = f"{task} could not be loaded on {answer.host}: {answer.reason}. Install its module there."
        raise AttemptLost(ExecutionError(message), resend=True)
    return answer


def _check_visible(task: Task, host: str) -> None:
    """Raise Lost unless the outputs that a worker says it wrote can be seen from here."""
    deadline = time.monotonic() + VISIBLE_WITHIN_SECONDS
    pause = 0.02
    while absent := [output for output in graph.flatten(task.output()) if not output.exists()]:
        if time.monotonic() > deadline:
            where = ", ".join(graph.path_text(output) for output in absent)
            raise AttemptLost(
                SharedStorageError(
                    f"{task} ended well on host {host}, but its output {where} cannot be seen from "
                    f"{socket.gethostname()}. Local targets on a cluster need absolute paths in a folder that all "
                    "hosts share; without one, use S3 targets. (If run() wrote nothing, that is the mistake.)"
                )
            )
        time.sleep(pause)
        pause = min(0.5, pause * 2)


def _broken_pool() -> WorkerLostError:
    return WorkerLostError(
        "A process of the ProcessPoolExecutor died, or could not import the program that is run, or its initializer "
        "raised (told above), which makes the whole pool unusable. With executor='processes' such a task fails alone."
    )
