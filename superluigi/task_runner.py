"""`run_task`: builds a force plan, gives Luigi's worker a scheduler and an executor, returns the outputs."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Literal, NoReturn

import luigi

from superluigi import config as settings
from superluigi import graph, renamed
from superluigi.arguments import Count, guarded
from superluigi.checks.definition import checks_of, has_checks
from superluigi.config import set_config as set_config
from superluigi.config import set_config_file as set_config_file
from superluigi.engine import engine
from superluigi.errors import DefinitionError, OptionError, OutputNotWrittenError, SuperLuigiError
from superluigi.execution import refuse_unknown as refuse_unknown_executor
from superluigi.execution.importing import refuse_if_importing
from superluigi.execution.process.termination import ends_cleanly
from superluigi.lineage.openlineage.emitter import openlineage_emitter
from superluigi.lineage.records.check_results import findings_in, first_line
from superluigi.lineage.staleness import edited_code, other_parameters
from superluigi.lineage.staleness.recorded_deps import with_recorded
from superluigi.lineage.staleness.refresh import Refresh
from superluigi.lineage.staleness.why import Explanation, why
from superluigi.parameters.luigi_task import AnyTask
from superluigi.runs import force, options
from superluigi.runs.context import RunContext, entered
from superluigi.runs.force import ForcePlan
from superluigi.runs.report import Report
from superluigi.runs.resume import ForcedRunJournal
from superluigi.runs.uncaught import told_in_short
from superluigi.targets.base import AtomicTarget
from superluigi.tasks.atomic import AtomicTaskWithMetadata
from superluigi.tasks.base import Task
from superluigi.tasks.bulk_complete import complete_many
from superluigi.tasks.runtime import callbacks
from superluigi.tasks.runtime.environment import parse as parse_environment
from superluigi.terminal import columns, flush, in_notebook, line, say
from superluigi.visuals import summary_table, tree

Config = Mapping[str, Mapping[str, Any]]


@guarded(hint=options.hint, known_as=options.KNOWN_AS, itself=("task",))
def run_task(
    task: AnyTask | type[AnyTask],
    config: options.ConfigOption = None,
    config_file: str | os.PathLike[str] | None = None,
    central_scheduler: bool = False,
    num_workers: Count = 1,
    local_output: bool = False,
    force_local_download: bool = False,
    force: bool = False,
    force_upstream: bool = False,
    force_upstream_to_task: options.ForcedOption = None,
    force_upstream_to_task_cls: options.ForcedOption = None,
    raise_exception: bool = False,
    *,
    force_downstream_of: options.ForcedOption = None,
    resume: bool = False,
    refresh: Literal["inputs", "code", "all"] | None = None,
    dry_run: bool = False,
    executor: object = None,
    resources: options.ResourcesOption = None,
    rate_limits: options.RateLimitsOption = None,
    on_error: Literal["continue", "stop"] = "continue",
    queue: options.QueueOption = None,
    store: options.StoreOption = None,
    environment: object = None,
    progress: bool | None = None,
    report_file: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    exclusive: Literal["wait", "fail", "off"] | None = None,
) -> Any:
    """Run `task` and what it requires; print Luigi's summary and where the outputs are; return their paths.

    Args:
        task: a task, or a task class whose parameters then come from the configuration.
        config: `{section: {key: value}}`, as in `luigi.cfg`, for this run; wins over `config_file`.
        config_file: a file of such sections; by default `./superluigi.cfg` where there is one.
        central_scheduler: use the running `luigid` of Luigi's configuration instead of our own scheduler.
        num_workers: how many tasks may run at the same time.
        local_output: return local paths also for outputs on S3, downloading them.
        force_local_download: fetch inputs from S3 again although valid local copies exist.
        force: make this task again.
        force_upstream: make this task and everything it requires again.
        force_upstream_to_task: make every task on a path from this one to the given task(s) again.
        force_upstream_to_task_cls: the same for one or several task classes, or their names.
        raise_exception: raise the first failed task's own exception, for debuggers.
        force_downstream_of: make this class (or these) again, and everything that depends on it.
        resume: go on with the last forced run of the same task and options that failed half-way.
        refresh: make what is stale again and nothing else: "inputs" (parameters or inputs differ from what the
            record says), "code" (that, or the code it reaches), "all" (that, or versions of packages it uses).
        dry_run: print the tree with the state of each task (complete, would run, forced, missing external); touch
            nothing; return a list of `lineage.staleness.why.Explanation`.
        executor: where tasks run: None, "threads", "processes", "dask", "tcp://…", a Dask client, or any
            `concurrent.futures.Executor`.
        resources: how much of each resource there is.
        rate_limits: limits by resource, task class or channel: `{"gpu": 1, "TrainTask": 2, "api": "10/minute"}`.
        on_error: "continue" runs all that still can; "stop" ends running tasks and starts nothing new.
        queue: the name, address or `Queue` of a durable queue: submit there, work with `num_workers`, wait.
        store: the default home of outputs, a folder or `s3://bucket/prefix`.
        environment: variables for all tasks of this run, a dict or an `Environment`; a task's own win over them.
        progress: show live progress; by default on a terminal and in a notebook, and elsewhere a plain line a minute.
        exclusive: for a task that another process makes just now: "wait" for it and take its output, "fail", or
            "off", which runs it all the same. None: as the task class or the setting says; by default "wait" for
            outputs on disks and "off" on S3, where it costs three or four requests a task.
        report_file: write a page about this run here (`.html`), also when it fails.
        quiet: print nothing but problems, and those to stderr.

    Returns:
        The output's path, or the list or dict of paths in the shape of `task.output()`: `pathlib.Path` for local
        targets, `s3://…` text for S3 ones.

    Raises:
        OptionError: options that cannot be combined, or a task to force that is not upstream. Nothing has run.
        ConfigError: the config file is missing or unreadable. Nothing has run.
        TaskFailedError: lists every failed task and chains the first cause.
    """
    if not dry_run:
        refuse_if_importing("a run")
    options.warn_of_variables()
    stop = on_error != "continue"
    refuse_unknown_executor(executor)
    _refuse_with_queue(
        queue, executor=executor, central_scheduler=central_scheduler, rate_limits=rate_limits, on_error=stop
    )
    sections = _sections(config, config_file)
    choices = {
        "force_upstream_to_task": force_upstream_to_task,
        "force_upstream_to_task_cls": force_upstream_to_task_cls,
        "force_downstream_of": force_downstream_of,
    }
    choices = {name: list(choice) if isinstance(choice, Iterator) else choice for name, choice in choices.items()}
    with settings.applied(sections):
        settings.check()
        settings.check_values()
        root = _instance(task)
        options.warn_of_sections(sections)
        options.warn_of_core(num_workers)
        run = RunContext(
            force_local_download=force_local_download,
            store=None if store is None else os.fspath(store),
            config=sections,
            environment=parse_environment(environment).as_option() if environment else None,
            exclusive=exclusive,
        )
        with entered(run):  # outputs may depend on the store
            plan = _plan(root, force=force, force_upstream=force_upstream, **choices)
            rule = None if dry_run else _refresh_rule(root, refresh, plan)
            run = replace(run, plan=plan if rule is None else ForcePlan(ids=rule.ids))
            memory = ForcedRunJournal(root.task_id, run.plan, choices)
            if resume:
                run = memory.resumed(run)
            if dry_run:
                return _dry_run(root, refresh, run, resume)
        run = replace(run, refresh=rule)
        with ends_cleanly(), told_in_short(), entered(run), memory.kept(run), openlineage_emitter(run):
            if queue is not None:
                report = _through_queue(root, run, queue, num_workers, resources)
            else:
                report = engine.run_graph(
                    [root],
                    run,
                    num_workers=num_workers,
                    executor=executor,
                    central_scheduler=central_scheduler,
                    resources=resources,
                    rate_limits=rate_limits,
                    on_error=on_error,
                    progress=False if quiet and progress is None and not in_notebook() else progress,
                    complete_many=complete_many(run),
                    remember=memory.remember,
                )
            if report_file is not None:
                from superluigi.visuals import plot_run

                page = plot_run(root, report, started=run.started).save(report_file)
                if not quiet:
                    _say(f"Report of this run: {page}")
            done = [name for name, word in report.outcomes.items() if word in ("ran", "complete")]
            callbacks.settle({failure.task_id: failure.error for failure in report.failures}, done)
            if not quiet:
                _tell_ending(report, run)
            _tell_warnings(report, err=quiet)
            if rule is None:
                _tell_other_parameters(root, report, run, err=quiet)
            _tell_left_by_failures(report, err=quiet)
            if raise_exception:
                _raise_own(report)
            _refuse_circles(report, told_already=not quiet)
            report.raise_failure(told_already=not quiet)
            _refuse_absent(root, report.outcomes.get(root.task_id) == "ran", elsewhere=queue is not None)
            paths = graph.map_structure(lambda target: _path(target, local_output, force_local_download), root.output())
        if not quiet:
            _say(f"Outputs can be found at {_shown(paths)}")
        return paths


def _tell_ending(report: Report, run: RunContext) -> None:
    """Luigi's summary, and ours below it."""
    _say(report.summary)
    told_by_error = in_notebook() and not report.success  # which ends the cell, with the user's own lines
    for parts in summary_table.lines(report, _seconds_since_start(run), columns(), failures=not told_by_error):
        line(*parts)
    flush()


def _seconds_since_start(run: RunContext) -> float:
    return (datetime.now(timezone.utc) - run.started).total_seconds()


#: Of the time that a run has taken, the share for looking whether what is complete was made with other parameters.
_LOOKING_SHARE = 0.02


def _tell_other_parameters(root: luigi.Task, report: Report, run: RunContext, err: bool) -> None:
    """A line for each family whose complete output was made with other parameters; in a notebook, with other code."""
    complete = report.found_complete or ([root] if report.outcomes.get(root.task_id) == "complete" else [])
    found = other_parameters.chosen(complete)
    for text in other_parameters.lines(found, _seconds_since_start(run) * _LOOKING_SHARE, far=bool(report.made)):
        _say(text, err=err)
    if in_notebook():
        for text in edited_code.lines(found):
            _say(text, err=err)


#: Of the tasks that were found complete so many are asked whether a failure has left their output.
_ASKED_OF_FAILURES = 1000


def _tell_left_by_failures(report: Report, err: bool) -> None:
    """A line for each complete task that writes to its place itself, and failed the last time it did."""
    from superluigi.visuals.attempts import left_by_failures

    complete = report.found_complete
    own = [one for one in complete if isinstance(one, Task) and not isinstance(one, AtomicTaskWithMetadata)]
    for task, places, error in left_by_failures(own[:_ASKED_OF_FAILURES]):
        _say(
            f"{task} counts as complete, but its last attempt failed ({error[:200]}): what is at {', '.join(places)} "
            "may be half an output. Remove it, or run with force=True; an AtomicTaskWithMetadata leaves none behind.",
            err=err,
        )


#: So many warnings of checks are told one by one.
_WARNINGS_TOLD = 20


def _tell_warnings(report: Report, err: bool) -> None:
    """A line for each check that only warns and has failed, as the records say."""
    told = 0
    for task in report.made_tasks:
        if not has_checks(task) or all(one.severity != "warn" for one in checks_of(task)):
            continue
        record = next((target.read_metadata() for target in graph.flatten(task.output())), None)
        for finding in findings_in(record):
            if finding["status"] != "passed":
                told += 1
                if told <= _WARNINGS_TOLD:
                    _say(f"! {task}: check {finding['name']!r} failed: {first_line(finding)}", err=err)
    if told > _WARNINGS_TOLD:
        _say(f"! and {told - _WARNINGS_TOLD} more warnings of checks, in the records", err=err)


def _refuse_absent(root: luigi.Task, ran: bool, elsewhere: bool) -> None:
    """What is said to be at a place is there; asked of a store only where no commit in this run has vouched for it."""
    vouched = graph.written(root, "commits_outputs") and not elsewhere
    asked = [target for target in graph.flatten(root.output()) if not vouched or isinstance(target, luigi.LocalTarget)]
    absent = [target for target in asked if not target.exists()] if ran else []
    if absent:
        where = ", ".join(graph.path_text(target) for target in absent)
        raise OutputNotWrittenError(
            f"{root} ended well, but its output is not there: {where}. Does run() write what output() names, and does "
            "output() name the same place where the task ran? (Not if it depends on what a script sets after its "
            "imports: make that a parameter.)"
        )


def _through_queue(
    root: luigi.Task, run: RunContext, queue: Any, num_workers: int, resources: Mapping[str, int] | None
) -> Report:
    from superluigi.queue.run_task_adapter import run_graph  # late: it brings SQLAlchemy

    return run_graph(root, run, queue, num_workers=num_workers, resources=resources)


def _refuse_with_queue(queue: object, **others: object) -> None:
    """Options that say where or how tasks run have no meaning for the workers of a queue."""
    if queue is not None and (given := [name for name, value in others.items() if value]):
        raise OptionError(f"queue cannot be combined with {given[0]}: the queue's own workers run the tasks.")


def _sections(config: Config | None, config_file: str | os.PathLike[str] | None) -> dict[str, dict[str, Any]]:
    """The configuration of this run: the file's sections with those of the argument over them."""
    default = settings.get("default_task_config")
    if config_file is None and default.is_file():
        config_file = default
    merged: dict[str, dict[str, Any]] = {}
    read = {} if config_file is None else settings.read_file(config_file)
    for section, items in (*read.items(), *(config or {}).items()):
        if not isinstance(items, Mapping):
            raise OptionError(f"config[{section!r}] must be a dict of keys and values, not {items!r}.")
        texts: dict[str, Any] = {key: options.as_text(section, key, value) for key, value in items.items()}
        merged[section] = {**merged.get(section, {}), **texts}
    return merged


def _instance(task: object) -> luigi.Task:
    root = task() if isinstance(task, type) and issubclass(task, luigi.Task) else task
    if isinstance(root, luigi.Task):
        if not root.initialized():
            written = "has an __init__ of its own: call super().__init__(*args, **kwargs) in it"
            raise DefinitionError(f"{type(root).__name__} was not made as a task. It {written}.")
        return root
    hint = ""
    if graph.flatten(task) and all(_is_task(one) for one in graph.flatten(task)):
        hint = " Of several tasks: run_task(collect([…])) runs them, compute([…]) gives their values."
    elif inspect.isfunction(task):
        hint = f" Decorate it with @task, and call it: run_task({task.__name__}(…))."
    elif isinstance(task, str):
        hint = " Give the class itself; by name it is run by `superluigi run MODULE TASK`."
    raise OptionError(f"run_task needs a Luigi task or task class, not {task!r:.200} ({type(task).__name__}).{hint}")


def _is_task(value: object) -> bool:
    return isinstance(value, luigi.Task) or (isinstance(value, type) and issubclass(value, luigi.Task))


def _plan(root: luigi.Task, **options: Any) -> ForcePlan:
    if all(options[name] is None for name in options if name not in ("force", "force_upstream")):
        return force.plan(force.roots_only([root]), **options)
    return force.plan(with_recorded(force.graph_of([root])), **options)


def _refuse_circles(report: Report, told_already: bool) -> None:
    """Tasks that wait for each other are a mistake in the pipeline, where nothing else has failed."""
    if report.failures and all(failure.kind == "circle" for failure in report.failures):
        error = report.failures[0].error
        if isinstance(error, SuperLuigiError):
            error.told = told_already
        raise error


def _refresh_rule(root: luigi.Task, refresh: str | None, plan: ForcePlan) -> Refresh | None:
    if refresh is None:
        return None
    if plan:
        raise OptionError("refresh cannot be combined with a force option; give one of them.")
    return Refresh.of([root], refresh)


def _dry_run(root: luigi.Task, refresh: str | None, run: RunContext, resume: bool) -> list[Explanation]:
    explained = why(root, refresh=refresh, plan=run.plan, resumed=run if resume else None)
    _say(tree.of_dry_run(explained))
    return explained


def _raise_own(report: Report) -> None:
    if not report.success and report.failures:
        raise report.failures[0].explained()


def _path(target: object, local: bool, refresh: bool) -> object:
    download = graph.asked(target, "download")
    if local and isinstance(target, AtomicTarget) and download is not None:
        return download(force_local_download=refresh)
    return graph.asked(target, "path", target)


def _shown(paths: object) -> str:
    flat = [graph.path_text(path) for path in graph.flatten(paths)]
    return flat[0] if len(flat) == 1 else "\n  ".join(["", *flat]) if flat else "no place: the task has no output"


def _say(text: str, err: bool = False) -> None:
    """Print at once."""
    say(text, err=err, flush=True)


def main(arguments: Sequence[str]) -> None:
    """`python -m superluigi.task_runner --task module.Class --config-file FILE`; see `superluigi run` for all flags."""
    parser = argparse.ArgumentParser(prog="python -m superluigi.task_runner", epilog="Better: superluigi run --help.")
    parser.add_argument("--task", required=True, metavar="MODULE.CLASS")
    parser.add_argument("--config-file", metavar="FILE", help="its sections have the task's parameters")
    parser.add_argument("--central-scheduler", action="store_true")
    args = parser.parse_args(arguments)
    module, dot, name = args.task.rpartition(".")
    if not dot:
        parser.error(f"--task {args.task} names no module: write --task MODULE.{args.task}")
    sys.path.insert(0, os.getcwd())
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        parser.error(f"there is no task {args.task}: {error}")
    try:
        run_task(cls, config_file=args.config_file, central_scheduler=args.central_scheduler)
    except SuperLuigiError as error:
        if not error.told:
            say(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)


def __getattr__(name: str) -> NoReturn:
    renamed.refuse("superluigi.task_runner", name)


if __name__ == "__main__":
    main(sys.argv[1:])
