"""What a task may change of the process around it: `KINDS` says how to look at each thing, and how to put it back."""

from __future__ import annotations

import contextlib
import csv
import faulthandler
import gc
import io
import locale
import logging
import operator
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import compress, repeat, starmap
from typing import Any, Generic, TypeVar

from superluigi.execution.process import descriptors

Value = TypeVar("Value")


@dataclass(frozen=True)
class Kind(Generic[Value]):
    """One thing: `look` costs little, `restore` is called with the value of before, and only if `look` differs."""

    name: str
    look: Callable[[], Value]
    restore: Callable[[Value], object]
    #: Belongs to the thread: put back in each thread, also while others run.
    per_thread: bool = False
    #: Only the main thread may set it.
    main_only: bool = False


def current_folder() -> str | None:
    """Where this process is; None when that folder has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def go_to(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


_table: dict[object, object] | None = getattr(os.environ, "_data", None)  # a copy of the whole costs 20 times as much


def _environment() -> dict[Any, object]:
    return dict(os.environ) if _table is None else _table.copy()


def _set_environment(before: dict[Any, Any]) -> None:
    texts = {os.fsdecode(name): os.fsdecode(value) for name, value in before.items()}
    for name in [name for name in os.environ if name not in texts]:
        del os.environ[name]
    for name, value in texts.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    time.tzset()


def _umask() -> int:
    mask = os.umask(0o077)  # what another thread makes in between is private rather than open
    os.umask(mask)
    return mask


_SIGNALS = sorted({int(s) for s in signal.valid_signals()} - {signal.SIGKILL, signal.SIGSTOP})
try:  # the same without enums, at a tenth of the cost
    _getsignal: Callable[[int], object] = import_module("_signal").getsignal
    _sigmask: Callable[[int, Any], set[Any]] = import_module("_signal").pthread_sigmask
except (ImportError, AttributeError):
    _getsignal, _sigmask = signal.getsignal, signal.pthread_sigmask


def _handlers() -> list[object]:
    return list(map(_getsignal, _SIGNALS))


def _set_handlers(before: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        if handler is not None and _getsignal(number) is not handler:
            with contextlib.suppress(OSError, ValueError):  # those that the C library keeps
                signal.signal(number, handler)


_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_STOPPED = (0.0, 0.0)


def _timers() -> tuple[bool, ...]:
    return tuple(map(_STOPPED.__ne__, map(signal.getitimer, _TIMERS)))


def _stop_timers(before: tuple[bool, ...]) -> None:
    for timer, ran in zip(_TIMERS, before, strict=True):
        if not ran:  # how long one that ran had to go is not known now
            signal.setitimer(timer, 0)


def _mask() -> set[object]:
    return _sigmask(signal.SIG_BLOCK, ())


def _streams() -> list[object]:
    now = [_told(sys.stdin), _told(sys.stdout), _told(sys.stderr)]
    first = [sys.__stdin__, sys.__stdout__, sys.__stderr__]  # nearly always the same
    return now + [told if told[0] is stream else _told(stream) for told, stream in zip(now, first, strict=True)]


def _told(stream: object) -> tuple[object, bool, tuple[Any, ...]]:
    return stream, getattr(stream, "closed", False), _coding(stream)


_CODING = ("encoding", "errors", "line_buffering", "write_through")
_OF_CODING = operator.attrgetter(*_CODING)


def _coding(stream: object) -> tuple[Any, ...]:
    """Of one of Python's own: others may refuse to say."""
    return _OF_CODING(stream) if type(stream) is io.TextIOWrapper else ()


_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


def _set_streams(before: list[Any]) -> None:
    for place, (name, (stream, closed, coding)) in enumerate(zip(_STREAMS, before, strict=True)):
        if not closed and getattr(stream, "closed", False):  # its descriptor stays open: Python does not close that
            stream = _opened(place % 3, stream)
        if coding and not closed and _coding(stream) != coding:
            stream.reconfigure(**dict(zip(_CODING, coding, strict=True)))
        setattr(sys, name, stream)


def _opened(descriptor: int, closed: object) -> object:
    return open(
        descriptor,
        "w" if descriptor else "r",
        encoding=getattr(closed, "encoding", None),
        errors=getattr(closed, "errors", None),
        closefd=False,
    )


class _ListOf:
    """A list that a module holds: the same object again, with the same in it."""

    def __init__(self, module: object, name: str) -> None:
        self._module, self._name = module, name

    def look(self) -> tuple[list[Any], list[Any]]:
        found: list[Any] = getattr(self._module, self._name)
        return found, list(found)

    def restore(self, before: tuple[list[Any], list[Any]]) -> None:
        found, content = before
        found[:] = content
        setattr(self._module, self._name, found)


_PATH, _ARGUMENTS, _FILTERS = _ListOf(sys, "path"), _ListOf(sys, "argv"), _ListOf(warnings, "filters")


def _set_filters(before: tuple[list[Any], list[Any]]) -> None:
    _FILTERS.restore(before)
    with warnings.catch_warnings():  # on leaving, it has what is cached of them looked up again
        pass


def _loggers() -> list[Any]:
    root = logging.root
    found: list[object] = [(*_of_logger(root), root.manager.disable)]
    known: list[Any] = list(root.manager.loggerDict.values())
    # without a line of Python for each of what may be hundreds: those that are more than a placeholder, of these the
    # ones that have something of their own
    loggers = list(compress(known, map(operator.is_not, map(type, known), repeat(logging.PlaceHolder))))
    for logger in compress(loggers, map(_PLAIN_LOGGER.__ne__, map(_OF_LOGGER, loggers))):
        found.append((*_of_logger(logger), 0))
    return found


_OF_LOGGER = operator.attrgetter("level", "handlers", "disabled", "propagate", "filters")
_PLAIN_LOGGER: tuple[object, ...] = (logging.NOTSET, [], False, True, [])
#: A handler, its level and its formatter.
_Told = tuple[logging.Handler, int, logging.Formatter | None]


def _of_logger(logger: logging.Logger) -> tuple[object, ...]:
    return logger, logger.level, logger.disabled, logger.propagate, list(logger.filters), _telling(logger)


def _telling(logger: logging.Logger) -> list[_Told]:
    """Its handlers without those that libraries give themselves when they are imported, to be silent."""
    if not logger.handlers:  # as most
        return []
    return [(one, one.level, one.formatter) for one in logger.handlers if type(one) is not logging.NullHandler]


def _set_logger(
    logger: logging.Logger, level: int, disabled: bool, propagate: bool, filters: list[Any], handlers: list[_Told]
) -> None:
    logger.setLevel(level)
    logger.disabled, logger.propagate, logger.filters = disabled, propagate, filters
    silent = [handler for handler in logger.handlers if type(handler) is logging.NullHandler]
    logger.handlers = [*silent, *(handler for handler, *_ in handlers)]
    for handler, its_level, formatter in handlers:
        handler.setLevel(its_level)
        handler.setFormatter(formatter)


def _set_loggers(before: list[Any]) -> None:
    known = {entry[0] for entry in before}
    for logger, *_ in _loggers():
        if logger not in known:  # one that had nothing of its own
            _set_logger(logger, logging.NOTSET, False, True, [], [])
    logging.disable(before[0][-1])
    for entry in before:
        _set_logger(*entry[:-1])


_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


def _limits() -> list[tuple[int, int]]:
    return list(map(resource.getrlimit, _LIMITS))


def _set_limits(before: list[tuple[int, int]]) -> None:
    for limit, values in zip(_LIMITS, before, strict=True):
        if resource.getrlimit(limit) != values:
            resource.setrlimit(limit, values)


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


_HOOKS: tuple[tuple[object, str], ...] = (
    (sys, "excepthook"),
    (sys, "unraisablehook"),
    (sys, "displayhook"),
    (sys, "breakpointhook"),
    (threading, "excepthook"),
    (warnings, "formatwarning"),
    (logging, "raiseExceptions"),
    (sys, "dont_write_bytecode"),
)


def _hooks() -> list[object]:
    return list(starmap(getattr, _HOOKS))


def _set_hooks(before: Sequence[object]) -> None:
    for (module, name), hook in zip(_HOOKS, before, strict=True):
        setattr(module, name, hook)


def _set_showing(before: Any) -> None:
    """Where warnings go; `logging.captureWarnings` remembers what it has replaced, so it is asked first."""
    for captured in (False, True):
        logging.captureWarnings(captured)
        if warnings.showwarning is before:
            return
    logging.captureWarnings(False)
    warnings.showwarning = before


def _start_method() -> str | None:
    module = sys.modules.get("multiprocessing")  # only a task that has imported it may have chosen one
    return None if module is None else module.get_start_method(allow_none=True)


def _set_start_method(before: str | None) -> None:
    sys.modules["multiprocessing"].set_start_method(before, force=True)


def _event_loop() -> dict[str, object]:
    """What `asyncio` knows of a loop in this thread: `asyncio.run` leaves it without one for good."""
    policy: Any = getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
    known: dict[str, object] = getattr(getattr(policy, "_local", None), "__dict__", {})
    return known


def _set_event_loop(before: dict[str, object]) -> None:
    now = _event_loop()
    now.clear()
    now.update(before)


def _garbage_collection() -> tuple[bool, tuple[int, int, int]]:
    return gc.isenabled(), gc.get_threshold()


def _set_garbage_collection(before: tuple[bool, tuple[int, int, int]]) -> None:
    gc.set_threshold(*before[1])
    (gc.enable if before[0] else gc.disable)()


def _set_faulthandler(on: bool) -> None:
    if on:
        faulthandler.enable(sys.__stderr__ or 2)
    else:
        faulthandler.disable()


_digits: Callable[[], int] = getattr(sys, "get_int_max_str_digits", int)  # old patches of Python 3.10 have none


KINDS: tuple[Kind[Any], ...] = (
    Kind("the current folder", current_folder, go_to),
    Kind("environment variables", _environment, _set_environment),
    Kind("the umask", _umask, os.umask),
    Kind("signal handlers", _handlers, _set_handlers, main_only=True),
    Kind("timers", _timers, _stop_timers),
    Kind("blocked signals", _mask, lambda mask: signal.pthread_sigmask(signal.SIG_SETMASK, mask), per_thread=True),
    Kind("standard descriptors", descriptors.look, descriptors.restore),
    Kind("standard streams", _streams, _set_streams),
    Kind("sys.path", _PATH.look, _PATH.restore),
    Kind("sys.argv", _ARGUMENTS.look, _ARGUMENTS.restore),
    Kind("loggers", _loggers, _set_loggers),
    Kind("warning filters", _FILTERS.look, _set_filters),
    Kind("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    Kind("the socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Kind("the folder for temporary files", lambda: tempfile.tempdir, lambda f: setattr(tempfile, "tempdir", f)),
    Kind("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Kind("garbage collection", _garbage_collection, _set_garbage_collection),
    Kind("hooks of the interpreter", _hooks, _set_hooks),
    Kind("where warnings go", lambda: warnings.showwarning, _set_showing),
    Kind("the fault handler", faulthandler.is_enabled, _set_faulthandler),
    Kind("the start method of processes", _start_method, _set_start_method),
    Kind("the switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Kind("the stack size of threads", threading.stack_size, threading.stack_size),
    Kind("the limit of fields in CSV", csv.field_size_limit, csv.field_size_limit),
    Kind("the limit of digits", _digits, lambda digits: sys.set_int_max_str_digits(digits)),
    Kind("tracing", sys.gettrace, sys.settrace, per_thread=True),
    Kind("profiling", sys.getprofile, sys.setprofile, per_thread=True),
    Kind("the event loop", lambda: dict(_event_loop()), _set_event_loop, per_thread=True),
    Kind("resource limits", _limits, _set_limits),
    Kind("priority", lambda: os.getpriority(os.PRIO_PROCESS, 0), lambda nice: os.setpriority(os.PRIO_PROCESS, 0, nice)),
    Kind("processors", _affinity, lambda numbers: os.sched_setaffinity(0, numbers)),
)
