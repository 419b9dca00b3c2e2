"""Run a graph: scheduler, worker and executors put together, and a report of what came of it.

A task that commits its outputs itself and raises when one is missing says so by the class attribute
`commits_outputs = True`; its requirement need not be looked at again before a dependant starts.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

from luigi import configuration
from luigi.rpc import RemoteScheduler, RPCError
from luigi.task import Task

from superluigi.arguments import Count, NotNegative, guarded
from superluigi.engine import status_socket
from superluigi.engine.backends import BackendRegistry
from superluigi.engine.progress import shown
from superluigi.engine.summary import build_report
from superluigi.engine.worker import Worker
from superluigi.errors import (
    ConfigError,
    ExecutorLostError,
    MissingDependencyError,
    OptionError,
    SuperLuigiError,
    message_of,
)
from superluigi.execution.importing import refuse_if_importing
from superluigi.execution.process import signals
from superluigi.execution.process.termination import ends_cleanly
from superluigi.luigi_compat.configuration import ERRORS, understood
from superluigi.luigi_compat.engine import ask_once
from superluigi.runs import logs
from superluigi.runs.completeness import CompleteMany
from superluigi.runs.context import RunContext, entered
from superluigi.runs.report import Report
from superluigi.scheduler.limits import Limits, Rates
from superluigi.scheduler.remote import NamespacedScheduler
from superluigi.scheduler.scheduler import ReadyScheduler
from superluigi.scheduler.terms import text_of
from superluigi.storage.local import leases
from superluigi.terminal import cut_middle, hold_standard_descriptors, say, visible

#: Between two tries of a task whose retries are limited, unless Luigi's configuration says otherwise.
RETRY_DELAY_SECONDS = 1.0


@guarded
def run_graph(
    tasks: Task | Sequence[Task],
    run: RunContext | None = None,
    *,
    num_workers: Count = 1,
    executor: object = None,
    central_scheduler: bool | str = False,
    resources: Mapping[str, NotNegative] | None = None,
    rate_limits: Mapping[str, int | str] | None = None,
    on_error: Literal["continue", "stop"] = "continue",
    progress: bool | None = None,
    log_level: int | str | None = None,
    complete_many: CompleteMany | None = None,
    scheduler: object = None,
    scheduler_config: Mapping[str, object] | None = None,
    worker_config: Mapping[str, object] | None = None,
    remember: Callable[[str], object] | None = None,
) -> Report:
    """Make `tasks` and all they require as part of `run`; say what came of it.

    `executor` is a name, a Dask address or Client, any `concurrent.futures.Executor`, or None: this
    process for one worker, processes for more. `central_scheduler` is True (the `luigid` of Luigi's
    configuration) or an address. `scheduler_config` and `worker_config` override Luigi's configuration
    sections `[scheduler]` and `[worker]`. `progress` None shows live lines on a terminal only, True shows
    them or, elsewhere, a plain line now and then, False nothing. `remember` is told the id of each forced task
    that was made and leaves no record of it. Failures of tasks are in the report, not raised.

    Raises:
        OptionError: options that mean nothing or contradict each other.
        ExecutorLostError: the central scheduler does not answer (any more).
        KeyboardInterrupt: after everything that ran has been ended.
    """
    refuse_if_importing("a run")
    run = run or RunContext()
    roots = [tasks] if isinstance(tasks, Task) else list(tasks)
    limits = Limits.parse(rate_limits)
    if limits:
        limits.refuse_unknown(resources or ())
    if scheduler is None:
        scheduler = make_scheduler(central_scheduler, resources, limits, scheduler_config)
        if central_scheduler and run.plan:
            scheduler = NamespacedScheduler(scheduler, run.plan, run.id)
    hold_standard_descriptors()
    backends = BackendRegistry(run, executor, num_workers)
    with (
        ends_cleanly(),
        entered(run),
        leases.kept(),
        logs.keeping(),
        _log_level(log_level),
        shown(progress) as observer,
    ):
        before = signal.getsignal(signal.SIGUSR1)
        with understood():
            worker = Worker(
                scheduler,
                run,
                worker_processes=num_workers,
                backends=backends,
                complete_many=complete_many,
                on_error=on_error,
                limits=limits,
                observer=observer,
                remember=remember,
                shares_work=bool(central_scheduler) and run.exclusive not in ("fail", "off"),
                **(worker_config or {}),
            )
            if (worker.settings.timeout or 0) < 0:
                raise ValueError("[worker] timeout must not be negative")
        try:
            with signals.set_by_others(signal.SIGUSR1, before), worker, _watchable(scheduler, run, roots):
                worker.add_all(roots)
                worker.run()
            backends.close()
        except RPCError as error:
            backends.close(abort=True)
            raise ExecutorLostError(
                f"The central scheduler does not answer ({error}). What has been made is safe: start luigid and run "
                "again, or leave central_scheduler out."
            ) from error
        except BaseException as error:
            backends.close(abort=True)
            if isinstance(error, KeyboardInterrupt):
                _tell_interrupted(worker, run, error)
            raise
        return build_report(worker, roots)


#: So many tasks that were ended are named, each in so many columns.
_ENDED_NAMED, _NAME_WIDTH = 5, 80


def _named(tasks: Sequence[Task]) -> str:
    more = f" and {len(tasks) - _ENDED_NAMED} more" if len(tasks) > _ENDED_NAMED else ""
    names = [cut_middle(visible(task, one_line=True), _NAME_WIDTH) for task in tasks[:_ENDED_NAMED]]
    return f"{', '.join(names)}{more}"


def _tell_interrupted(worker: Worker, run: RunContext, error: KeyboardInterrupt) -> None:
    """Say what Ctrl-C has ended, and how to go on."""
    lost = {task.task_id for task in worker.go_on}
    ended = [attempt.task for task_id, attempt in worker.running.items() if task_id not in lost]
    what = f"{_named(ended)} {'were' if len(ended) > 1 else 'was'} ended"
    if lost:
        go_on = f"{_named(list(worker.go_on))} may go on in processes of the executor that was given"
        what = f"{what}; {go_on}" if ended else go_on
    elif not ended:
        what = "nothing was running"
    again = "with resume=True (--resume) it goes on" if run.plan else "it goes on with what is missing"
    with contextlib.suppress(OSError, ValueError):  # the other end is closed
        made = f"{len(worker.made)} of {len(worker.tasks)} tasks were made"
        say(f"Interrupted: {what}; {made}. Run the same again: {again}.", err=True, flush=True)
        vars(error)["told"] = True


def make_scheduler(
    central: bool | str = False,
    resources: Mapping[str, int] | None = None,
    limits: Limits | None = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """The scheduler of this process, or a proxy of a stock `luigid`.

    Where Luigi's configuration says nothing, a scheduler that serves one run gives a task whose retries
    are limited its next try after `RETRY_DELAY_SECONDS` instead of 15 minutes, and believes at once that
    a made output is gone.
    """
    limits = limits or Limits()
    if central:
        return _central(central, resources, limits)
    settings = {
        "prune_on_get_work": True,
        "record_task_history": False,  # as in Luigi: the configuration that says otherwise is for luigid
        **({} if _is_configured("stable_done_cooldown_secs") else {"stable_done_cooldown_secs": 0}),
        **({} if _is_configured("retry_delay") else {"limited_retry_delay": RETRY_DELAY_SECONDS}),
        **(config or {}),
    }
    with understood("resources"):
        totals = {**configuration.get_config().getintdict("resources"), **(resources or {}), **limits.at_once}
    totals.update(dict.fromkeys(limits.per_time, sys.maxsize))
    with understood(), _with_its_collector():
        return ReadyScheduler(resources=totals, rates=Rates(limits.per_time), **settings)


@contextmanager
def _with_its_collector() -> Iterator[None]:
    """What goes wrong with a scheduler's collector of metrics, the only code of others in it, as advice.

    Raises:
        ConfigError: says what it lacks.
    """
    try:
        yield
    except (*ERRORS, SuperLuigiError):
        raise
    except Exception as error:
        raise ConfigError(
            f"Luigi's configuration cannot be used: [scheduler] metrics_collector: {type(error).__name__}: "
            f"{message_of(error)}. Install what it needs (prometheus-client, datadog), or take it out."
        ) from error


def _is_configured(option: str) -> bool:
    config = configuration.get_config()
    return any(config.has_option("scheduler", name) for name in (option, option.replace("_", "-")))


def _central(address: bool | str, resources: Mapping[str, int] | None, limits: Limits) -> RemoteScheduler:
    if limits.per_time:
        raise OptionError(
            f"rate_limits per time ({', '.join(limits.per_time)}) are kept by the scheduler of this process; a "
            "central luigid knows only limits at once. Give a number, or leave central_scheduler out."
        )
    named, where = (address, "central_scheduler=") if isinstance(address, str) else _central_address()
    try:
        remote = RemoteScheduler(named)
        ask_once(remote)
    except AssertionError as error:  # Luigi's way to name a package that is not there
        raise MissingDependencyError(f"{where} is {named!r}: {error}") from error
    except (RPCError, ValueError, LookupError, TypeError) as error:
        cause = getattr(error, "sub_exception", None) or error
        raise ExecutorLostError(
            f"No luigid answers at {named} ({type(cause).__name__}), the address of {where}. Start `luigid`, name the "
            "address where it listens, or leave the central scheduler out. Nothing has run."
        ) from cause
    totals = {**(resources or {}), **limits.at_once}
    if totals:
        remote.update_resources(**totals)  # type: ignore[attr-defined]
    return remote


def _central_address() -> tuple[str, str]:
    """Where luigid is, and what says so."""
    from luigi.interface import core

    with understood():
        settings = core()
    if settings.scheduler_url:
        return settings.scheduler_url, "[core] scheduler_url in Luigi's configuration"
    at = f"http://{settings.scheduler_host}:{settings.scheduler_port:d}"
    return at, "[core] scheduler_host and scheduler_port in Luigi's configuration"


def _watchable(scheduler: object, run: RunContext, roots: Sequence[Task]) -> AbstractContextManager[None]:
    """Let `superluigi ui` look at the scheduler of this process; a luigid has a page of its own."""
    if not isinstance(scheduler, ReadyScheduler):
        return nullcontext()
    named = text_of(roots[0]) if roots else ""
    return status_socket.opened(scheduler, run.id, f"{named} and {len(roots) - 1} more" if len(roots) > 1 else named)


@contextmanager
def _log_level(level: int | str | None) -> Iterator[None]:
    """Set the level of Luigi's logger for a while.

    None does as Luigi's configuration says, and keeps a logger quiet of which nothing was said.
    """
    as_told = logs.as_told() if level is None else nullcontext(False)
    with as_told as told, nullcontext() if told else _level_of_ours(level):
        yield


@contextmanager
def _level_of_ours(level: int | str | None) -> Iterator[None]:
    before = logs.logger.level
    if level is None and before == logging.NOTSET and not logs.logger.handlers:
        level = logging.WARNING
    if level is not None:
        logs.logger.setLevel(level)
    try:
        yield
    finally:
        logs.logger.setLevel(before)
