"""Every exception that Super Luigi raises on purpose.

SuperLuigiError
├── DefinitionError (TypeError)            a task, target or option is written wrongly
│   ├── RunSignatureError                  run() asks for a name that we do not offer
│   └── OptionError (ValueError)           options that cannot be combined, or unknown values
│       └── NotAcceptableError             an output cannot be accepted or adopted as it is
├── ParameterError (ValueError)            a task parameter is missing, unknown or of the wrong type
├── TargetError (OSError)                  an output or input is not as it should be
│   ├── TargetKindError                    a file where a folder is expected, or the reverse
│   ├── TargetMissingError (FileNotFoundError)   something to read is not there
│   ├── OutputNotWrittenError              run() ended without writing its output
│   ├── UnfinishedOutputError              something beside the output would be lost, or bytes are not written yet
│   ├── CommitConflictError                another writer committed to the same place first
│   ├── OutputClashError (ValueError)      two tasks have one place, or one is inside what another replaces
│   ├── CommitError                        a commit could not be carried out; the old output stands
│   ├── StorageAccessError (PermissionError)     the store refuses: credentials, rights
│   ├── BucketMissingError                 the bucket does not exist
│   └── TransferError                      bytes could not be moved, or arrived changed
├── RecordError (ValueError)               a lineage record is unreadable or would be wrong
│   ├── RecordKeyError (KeyError)          user code changed or took one of our keys
│   └── RecordValueError (TypeError)       a value that JSON cannot hold
├── FormatError (ValueError)               a value cannot be saved or loaded
├── ConfigError (ValueError)               a setting is unknown, missing or unreadable
├── MissingDependencyError (ImportError)   an optional package is needed
├── RenamedError (ImportError)             a name of the first super-luigi package that is no more
├── ExecutionError (RuntimeError)          what happened while tasks ran
│   ├── TaskFailedError                    one or more tasks of a run failed
│   ├── CheckFailedError (ValueError)       what a task made does not pass its checks; it was not published
│   ├── UnguardedScriptError               a module that is only imported starts a run
│   ├── WorkerLostError                    the process that ran a task died
│   ├── ExecutorLostError                  the executor as a whole is gone; nothing more can run on it
│   ├── OutputElsewhereError               output() says another place in a worker process than in the caller's
│   ├── SharedStorageError                 a worker says DONE, but its output is not visible here
│   ├── RemoteError                        stands for an error of another process that cannot be pickled
│   ├── CommandFailedError                 a shell command ended with a non-zero exit code
│   ├── TaskTimeoutError (TimeoutError)    a task took longer than allowed
│   ├── TaskRunningElsewhereError          another process makes it just now, and `exclusive="fail"` says not to wait
│   ├── TaskCancelledError                 the task was asked to stop
│   └── GracefulTimeout                    the task asks for another attempt, to go on from its checkpoint
└── QueueError (RuntimeError)              the durable queue cannot do what was asked
    ├── QueueVersionError                  its tables are newer than this program, or too old
    ├── QueueGoneError                     it does not exist, or was deleted meanwhile
    ├── QueueUnreachableError (ConnectionError)   its database does not answer, or is full: that may pass
    └── QueueTimeoutError (TimeoutError)   `wait` waited as long as it was told to

Every class keeps its message in `args`, so that instances survive pickling: they cross processes.
"""

from __future__ import annotations

import sys
import traceback
import weakref
from collections.abc import Callable, Sequence
from typing import Any


class SuperLuigiError(Exception):
    """Base of all errors of this package; catch it to catch them all."""

    #: Whether stdout has shown what this says: the command line then says it again only where that is not seen.
    told = False


#: Characters of a message that travel with a run; a task that fails with more has it whole in its log.
MESSAGE_LIMIT = 20_000


class _UsersCode:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and not issubclass(kind, KeyboardInterrupt)


#: `with USERS_CODE:` whatever is raised in it is dropped, `SystemExit` and its like too; only Ctrl-C goes on. For what
#: is asked of a user's objects where the answer is not needed, or where another place says what is wrong.
USERS_CODE = _UsersCode()


def message_of(error: BaseException) -> str:
    """`str(error)`, cut at `MESSAGE_LIMIT`, whatever the error's own `__str__` does."""
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - foreign code
        return f"(its text cannot be told: __str__ raised {type(broken).__name__})"
    over = len(text) - MESSAGE_LIMIT
    return text if over <= 0 else f"{text[:MESSAGE_LIMIT]}… ({over} more characters)"


class _Mark:
    """Lives as long as the error that carries it: a KeyboardInterrupt cannot be referred to weakly."""


def lifetime_of(error: BaseException, ended: Callable[[object], None] | None = None) -> weakref.ref[object]:
    """Refers to one thing as long as `error` lives; `ended` is called when it does no more."""
    mark: object = vars(error).setdefault("superluigi_mark", _Mark())
    return weakref.ref(mark, ended)


def repeated(error: BaseException) -> BaseException | None:
    """What to raise an advice from that has the words of `error`: of ours only what that was raised from."""
    return error.__cause__ if isinstance(error, SuperLuigiError) else error


def traceback_of(error: BaseException) -> str:
    """The traceback of `error` as text, whatever its text and its attributes do."""
    with USERS_CODE:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    frames = "".join(traceback.format_tb(error.__traceback__))
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return f"Traceback (most recent call last):\n{frames}{name}: {message_of(error)}\n"


#: Whose code may fail while ours is at work, without that the user's was asked.
_OURS = {
    "superluigi", "luigi", "boto3", "botocore", "s3transfer", "urllib3", "dateutil", "six", *sys.stdlib_module_names
} - {"__main__"}  # fmt: skip


def met_users_code(error: BaseException) -> bool:
    """Whether code of the user's (a module, a callback) was asked on the way to `error`."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(module.partition(".")[0] not in _OURS for module in modules)


def tellable(error: BaseException, formatted: str = "") -> BaseException:
    """`error` itself if its text can be had and has a sane size, else a `RemoteError` that stands for it.

    What a run keeps, prints, sends and compares are errors of any class: they pass this door once, where
    they are caught, and may be treated like any other behind it. `formatted` is the traceback.
    """
    printable = False
    with USERS_CODE:
        traceback.TracebackException(type(error), error, None, lookup_lines=False)  # asks for notes, causes, members
        printable = True
        if len(str(error)) <= MESSAGE_LIMIT:
            return error
    stand_in = RemoteError(f"{type(error).__module__}.{type(error).__qualname__}: {message_of(error)}", formatted)
    stand_in.__cause__ = error if printable else None
    return stand_in


class DefinitionError(SuperLuigiError, TypeError):
    """A task, target or option is written wrongly; nothing has run."""


class RunSignatureError(DefinitionError):
    """`run` asks for a name that its base class does not offer."""


class OptionError(DefinitionError, ValueError):
    """Options that cannot be combined, or an unknown value for one."""


class NotAcceptableError(OptionError):
    """An output cannot be accepted or adopted as it is; the message says what is in the way."""


class ParameterError(SuperLuigiError, ValueError):
    """A task parameter is missing, unknown, or its value has the wrong type."""


class TargetError(SuperLuigiError, OSError):
    """An output or input is not as it should be; `errno` is the system's, where the system refused."""

    def __reduce__(self) -> Any:
        return _with_errno, (type(self), self.args, self.errno)


def _with_errno(kind: type[TargetError], args: tuple[object, ...], number: int | None) -> TargetError:
    error = kind(*args)
    error.errno = number
    return error


class TargetKindError(TargetError):
    """A file where a folder is expected, or the reverse; an object where a prefix is expected."""


class TargetMissingError(TargetError, FileNotFoundError):
    """Something that should be read is not there."""


class TargetReplacedError(TargetMissingError):
    """Something else is there than what was asked for: it was replaced meanwhile."""


class OutputNotWrittenError(TargetError):
    """`run` ended without writing what it promised."""


class UnfinishedOutputError(TargetError):
    """`run` ended while its output was not whole: files lie beside it, or a file is still open and not all written."""


class CommitConflictError(TargetError):
    """Another writer committed to the same place first; its output stands, ours was discarded."""


class OutputClashError(TargetError, ValueError):
    """Two outputs in one place, or one inside what another replaces as a whole; nothing was removed."""


class CommitError(TargetError):
    """A commit could not be carried out; the old output stands."""


class StorageAccessError(TargetError, PermissionError):
    """The store refuses: wrong credentials or missing rights. Never read as "does not exist"."""


class BucketMissingError(TargetError):
    """The bucket does not exist."""


class TransferError(TargetError):
    """Bytes could not be moved, or arrived changed."""


class RecordError(SuperLuigiError, ValueError):
    """A lineage record is unreadable or would be wrong."""


class RecordKeyError(RecordError, KeyError):
    """User code changed, deleted or took one of the record's own keys."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would show the repr


class RecordValueError(RecordError, TypeError):
    """A metadata value that JSON cannot hold."""


class FormatError(SuperLuigiError, ValueError):
    """A value cannot be saved or loaded in the format its suffix names."""


class ConfigError(SuperLuigiError, ValueError):
    """A setting is unknown, missing or unreadable."""


class MissingDependencyError(SuperLuigiError, ImportError):
    """An optional package is needed for what was asked; the message names the extra."""


class RenamedError(SuperLuigiError, ImportError):
    """A name of the first `super-luigi` package that is no more; the message says what to write."""


class ExecutionError(SuperLuigiError, RuntimeError):
    """What happened while tasks ran."""


class TaskFailedError(ExecutionError):
    """One or more tasks of a run failed; lists each with its error and chains the first cause.

    `failures` holds `(task id, error)` pairs in the order in which they happened.
    """

    def __init__(self, message: str, failures: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, tuple(failures))
        self.failures = tuple(failures)
        #: What a notebook shows in place of the traceback.
        self.in_short: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self.args[0])

    def _render_traceback_(self) -> list[str]:
        """For IPython, which asks each exception for this: ten lines, the user's own frames among them."""
        return list(self.in_short or (f"{type(self).__name__}: {self}",))


class CheckFailedError(ExecutionError, ValueError):
    """What a task made, or external data that it reads, does not pass its checks; nothing was published.

    `findings` holds what each check found, as records have it: `name`, `status`, `severity`, `seconds`, `detail`.
    `quarantine` is the folder in which the rejected data is, or None.
    """

    def __init__(self, message: str, findings: Sequence[dict[str, Any]] = (), quarantine: str | None = None) -> None:
        super().__init__(message, tuple(findings), quarantine)
        self.findings = tuple(findings)
        self.quarantine = quarantine

    def __str__(self) -> str:
        return str(self.args[0])


class UnguardedScriptError(ExecutionError):
    """A module that a worker process or command only imports starts a run; nothing was started."""


class WorkerLostError(ExecutionError):
    """The process that ran a task died (killed, out of memory, os._exit)."""


class ExecutorLostError(ExecutionError):
    """The executor as a whole is gone (a Dask scheduler, say): nothing more can run on it."""


class OutputElsewhereError(ExecutionError):
    """`output()` names another place in a worker process than where the run was started; nothing was written."""


class SharedStorageError(ExecutionError):
    """A task ended well on another host, but its output cannot be seen from here."""


class RemoteError(ExecutionError):
    """Stands for an error of another process whose own class or values cannot be pickled.

    `remote_traceback` is its formatted traceback.
    """

    def __init__(self, message: str, remote_traceback: str = "") -> None:
        super().__init__(message, remote_traceback)
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        return str(self.args[0])


class CommandFailedError(ExecutionError):
    """A shell command ended with a non-zero exit code or could not be started."""


class TaskTimeoutError(ExecutionError, TimeoutError):
    """A task took longer than its `worker_timeout` and was ended."""


class TaskRunningElsewhereError(ExecutionError):
    """Another process makes the same output just now, and `exclusive="fail"` says not to wait; nothing has run."""


class TaskCancelledError(ExecutionError):
    """The task was asked to stop; nothing was published."""


class GracefulTimeout(ExecutionError):  # noqa: N818 - it is no failure
    """Raised by a resumable task that has saved a checkpoint: it asks for another attempt."""


class QueueError(SuperLuigiError, RuntimeError):
    """The durable queue cannot do what was asked."""


class QueueVersionError(QueueError):
    """The tables of a queue are newer than this program, or older than it can migrate."""


class QueueGoneError(QueueError):
    """The queue does not exist, or was deleted while it was in use."""


class QueueTaskMissingError(QueueError, LookupError):
    """The queue does not know a task: it was never submitted there, or has been forgotten."""


class QueueUnreachableError(QueueError, ConnectionError):
    """The database of a queue does not answer, is locked or is full. It may pass: workers try again for a lease."""


class QueueTimeoutError(QueueError, TimeoutError):
    """`wait` waited as long as it was told to; the queue goes on."""
