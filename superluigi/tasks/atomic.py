"""Tasks whose `run` asks for what it needs by name, and whose outputs carry their lineage record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import luigi

from superluigi import graph
from superluigi.checks.definition import has_checks
from superluigi.execution.yielded import start
from superluigi.lineage.records import builder as records
from superluigi.runs import context as runs
from superluigi.targets.base import AtomicTarget
from superluigi.tasks import outputs, values
from superluigi.tasks.base import Task
from superluigi.tasks.checking import of_outputs
from superluigi.tasks.lifecycle.task_attempt import AtomicAttempt, TaskAttempt


class TaskWithMetadata(Task):
    """A task that writes its own outputs and whose `run` may ask for `metadata`; a record is put beside each.

    The outputs must be Super Luigi targets. `metadata` is a dict that already says what is known before the run;
    add to it what you want to find in the record later.
    """

    run_names: ClassVar[frozenset[str]] = frozenset({"metadata", "task_dir", "checkpoint_path"})
    _superluigi_attempt_class: ClassVar[type[TaskAttempt]] = TaskAttempt

    def records_run(self) -> bool:
        """Records tell in which run the outputs were made."""
        return bool(self._superluigi_recorded())

    def made_by_run(self, this: runs.RunContext) -> bool:
        """Whether every output has a record of `this` run, or of an attempt that began after it did."""
        for target in graph.flatten(self.output()):
            record = target.read_metadata()
            if record is None:
                return False
            if (record.get("run") or {}).get("id") != this.id and not _is_later(record, this):
                return False
        return True

    def outputs_exist(self) -> bool:
        """Every output exists; several outputs of one task must come from one run (a crash can part them).

        Without outputs (None, or not known before the inputs are there) it is not complete.
        """
        targets = self._superluigi_recorded()
        if self.existence_is_plain() and (targets or not graph.flatten(self.output())):
            if not targets or not outputs.are_there(self, targets):
                return False
        elif not super().outputs_exist():
            return False
        if len(targets) < 2:
            return True
        makers = {target.location.run_id_of_data() for target in targets}
        return len(makers - {None}) < 2

    outputs_exist.is_luigis_own = True  # type: ignore[attr-defined]  # wrappers have no records

    #: Its attempts look whether every output is there: they need not be looked at again before a dependant starts.
    commits_outputs: ClassVar[bool] = True

    def _superluigi_recorded(self) -> list[AtomicTarget]:
        """The outputs that get a record; wrappers have none, and what others make needs none."""
        others = self.run is None or isinstance(self, luigi.WrapperTask)
        return [] if others else outputs.listed(self)

    def _superluigi_attempt(self, user_run: Callable[..., Any]) -> Any:
        """Begin an attempt; a generator if `user_run` yields requirements, else its value once all is committed.

        Where nothing has changed but the checks, what is there is checked, and `user_run` is not called.
        """
        if has_checks(self) and of_outputs.is_due_alone(self):
            return of_outputs.recheck(self)
        return start(self._superluigi_attempt_class(self).steps(user_run))


class AtomicTaskWithMetadata(TaskWithMetadata):
    """A task without storage code: temporary paths in and out, a dict for lineage, commits all or nothing.

    `run` may take any subset of `input_path`, `output_path`, `metadata`, `inputs`, `task_dir`, `checkpoint_path`. A
    value that it returns is saved to the output in the format its suffix names. It may yield requirements; each
    yield gives their temporary paths.
    """

    run_names: ClassVar[frozenset[str]] = frozenset(
        {"input_path", "output_path", "metadata", "inputs", "task_dir", "checkpoint_path"}
    )
    _superluigi_attempt_class: ClassVar[type[TaskAttempt]] = AtomicAttempt
    #: The suffix of the default home, when it should not follow what `run` returns.
    suffix: ClassVar[str | None] = None

    def output(self) -> Any:
        """The default home: `<store>/<task_family>/<task_hash><suffix>`; override it to choose another place."""
        return values.default_output(self)

    output.is_default_home = True  # type: ignore[attr-defined]  # a mark that an override does not have


def _is_later(record: Mapping[str, object], this: runs.RunContext) -> bool:
    """Whether an attempt began after `this` run did; a time to come is by a clock that cannot be compared with ours."""
    return records.iso(this.started) <= str(record.get("start_time", "")) <= records.iso(records.utc_now())
