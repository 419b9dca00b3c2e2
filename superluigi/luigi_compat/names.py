"""The table of Luigi's private names that are used: where each is, and why there is no public way."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

#: `module:Class` of Luigi, or `module` → private name → why.
PRIVATE: dict[str, dict[str, str]] = {
    "luigi.worker:Worker": {
        "_add_task": "tells the scheduler and the summary's history in one",
        "_add_task_batcher": "announces the batch parameters of a family",
        "_add_task_history": "what the summary is made of",
        "_add_worker": "announces the worker with what it says of itself",
        "_assistant": "an option of the constructor, kept nowhere else",
        "_batch_running_tasks": "the tasks in a batch that runs, which Luigi's own parts fill",
        "_config": "the section [worker], with what the constructor was given over it",
        "_email_complete_error": "mails of failures, as Luigi words them",
        "_email_dependency_error": "the same, for requires()",
        "_email_task_failure": "the same, for run()",
        "_email_unexpected_error": "the same, for our own mistakes",
        "_first_task": "shown on Luigi's page as the worker's purpose",
        "_get_work": "asks the scheduler and loads what it names, batches too",
        "_get_work_response_history": "the summary reads in it what other workers run",
        "_handle_next_task": "replaced: ours waits for events",
        "_id": "the worker's name, which every message to the scheduler carries",
        "_idle_since": "since when there is nothing to do, for wait_interval and keep_alive",
        "_keep_alive": "whether to wait for other workers",
        "_keep_alive_thread": "must be ended with the worker",
        "_log_unexpected_error": "the same, for our own mistakes",
        "_run_task": "replaced: ours hands the attempt to an executor",
        "_running_tasks": "Luigi's loop and its messages look into it",
        "_scheduled_tasks": "the tasks by id; the summary and messages of the scheduler look into it",
        "_scheduler": "the scheduler that the constructor was given or made",
        "_start_phasing_out": "what a worker does that was disabled on Luigi's page",
        "_stop_requesting_work": "ends the loop once what runs has ended",
        "_task_result_queue": "closed: it is for forked processes, which we do not have",
        "_validate_task": "refuses what is no task, in Luigi's words",
    },
    "luigi.worker:SchedulerMessage": {
        "_message_id": "travels with a message to a task in another process, so that the answer finds its way"
    },
    "luigi.scheduler:Scheduler": {
        "_config": "the section [scheduler], with what the constructor was given over it",
        "_email_batcher": "mails of failures that are gathered",
        "_generate_retry_policy": "a task's own retry policy over that of the configuration",
        "_has_resources": "Luigi's rule of what may start",
        "_paused": "set on Luigi's page",
        "_prune_emails": "sends the gathered mails when they are due",
        "_reset_orphaned_batch_running_tasks": "replaced: Luigi's walks all tasks",
        "_resources": "how much of each resource there is",
        "_state": "replaced by an indexed one",
        "_task_history": "the database of luigid, where one is kept",
        "_update_task_history": "tells it of a change",
        "_update_worker": "notes that a worker lives",
        "_used_resources": "Luigi's count of what is taken",
    },
    "luigi.scheduler:scheduler": {"_get_retry_policy": "the retry policy of the configuration"},
    "luigi.scheduler:SimpleTaskState": {
        "_active_workers": "the workers that live",
        "_metrics_collector": "counts for monitoring; the indexed state takes it over",
        "_remove_workers_from_tasks": "replaced: Luigi's walks all tasks",
        "_status_tasks": "tasks by status, which Luigi's queries read",
        "_tasks": "all tasks, which Luigi's queries read",
    },
    "luigi.configuration.cfg_parser:LuigiConfigParser": {
        "_config_paths": "the files that were read: an error of a value does not say which"
    },
    "luigi.execution_summary": {
        "_get_run_by_other_worker": "which tasks other workers run",
        "_partition_tasks": "the kinds of ends, by Luigi's rules",
        "_summary_format": "the summary's text",
        "_summary_wrap": "the lines around it",
        "_tasks_status": "the status code of a run",
    },
    "luigi.task:Task": {
        "__hash": "what a task is hashed by, which its `__init__` sets and copies and unpickled ones need, too",
        "_get_param_visibilities": "which parameters Luigi's page may show",
        "_owner_list": "who is mailed",
        "_requires": "what a task requires beyond requires(), which mix-ins of Luigi's extend",
    },
    "luigi.rpc:RemoteScheduler": {
        "_rpc_log_retries": "each failed try with its traceback; the first question says in a line what is wrong",
        "_rpc_retry_attempts": "tries half a minute apart; whether there is a luigid at all is known at once",
    },
    "luigi.task_register:Register": {
        "_get_reg": "all task classes by name",
        "_reg": "the same as a list, in which classes that were unpickled are found again",
        "__instance_cache": "the one object for each task; equal values that read differently are kept apart",
    },
    "luigi.parameter": {
        "_DateParameterBase": "which parameters are dates, for range tools",
        "_DatetimeParameterBase": "which are moments",
        "_no_value": "the mark of a parameter without default",
    },
    "luigi.parameter:Parameter": {
        "_attribute_name": "what a parameter is called, for messages of what was refused",
        "_counter": "the order of parameters, which an overridden one keeps",
        "_default": "the default as it was given; reading it by value_of would ask the configuration",
    },
    "luigi.parameter:ChoiceParameter": {
        "_choices": "shown in help and completion",
        "_var_type": "what the choices are made of",
    },
    "luigi.parameter:EnumParameter": {"_enum": "shown in help and completion"},
}


def public(name: str) -> Any:
    """The private attribute `name` of Luigi's, for a class of ours to have under another name, to read and write."""
    if name not in declared():
        raise LookupError(f"{name} is not declared in superluigi.luigi_compat.names, with the reason why it is used.")

    def write(self: object, value: object) -> None:
        setattr(self, name, value)

    return property(attrgetter(name), write)


def declared() -> frozenset[str]:
    """All names of the table."""
    return frozenset(name for names in PRIVATE.values() for name in names)
