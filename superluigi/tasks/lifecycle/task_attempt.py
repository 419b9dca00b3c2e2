"""One attempt of one task: what `run` is given, what becomes of what it writes, and the record of it.

The life of an attempt: copies of inputs and stages for outputs are made, `run` is called with the names that it
asked for, a returned value is saved, every stage is checked, the record is finished, every stage is committed.
Whatever ends it early, exception, Ctrl-C or a yield that is not resumed, leaves the old outputs and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from luigi.task import DynamicRequirements

from superluigi import graph
from superluigi.checks.definition import has_checks
from superluigi.errors import CommitConflictError, DefinitionError, GracefulTimeout, OutputNotWrittenError
from superluigi.execution.process.forks import ends_forks
from superluigi.execution.process.process_state import at
from superluigi.execution.process.state_kinds import current_folder
from superluigi.execution.yielded import answers_itself, follow, refuse_async, settled
from superluigi.lazy import lazy
from superluigi.lineage.code_fingerprint.code import code_identity
from superluigi.lineage.code_fingerprint.environment import environment
from superluigi.lineage.records import builder as records
from superluigi.lineage.records import input_records
from superluigi.lineage.staleness.facts import public_params
from superluigi.runs import context as runs
from superluigi.storage.base import Record, StagedWrite
from superluigi.storage.local.location import published_together
from superluigi.targets import joining
from superluigi.targets.base import AtomicTarget
from superluigi.tasks import inputs, outputs, values
from superluigi.tasks.base import Task
from superluigi.tasks.checking import of_outputs as checking
from superluigi.tasks.lifecycle import init_steps, mistakes, rivals, strays
from superluigi.tasks.runtime import mixin


class TaskAttempt:
    """An attempt of a task that writes its own outputs; records are put beside them afterwards."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.stack = contextlib.ExitStack()
        self.run = runs.current()
        self.started = records.utc_now()
        #: What relative paths mean; the task may go elsewhere.
        self.folder: str | None = None

    # ---- what run may ask for by name

    @lazy
    def metadata(self) -> dict[str, object]:
        """The draft of the record, as a dict; its inputs give their own records on demand."""
        metadata = self.record.metadata
        metadata["input"] = input_records.with_records(metadata["input"], self._inputs)
        return metadata

    @lazy
    def _inputs(self) -> object:
        return self.task.input()

    @lazy
    def task_dir(self) -> Path:
        """The task's own folder, outside of its outputs."""
        return mixin.task_dir(self.task)

    @lazy
    def checkpoint_path(self) -> Path:
        """Where a resumable task keeps what it needs to go on in another attempt."""
        return mixin.checkpoint_path(self.task)

    @lazy
    def record(self) -> records.RecordBuilder:
        """The record while the task runs."""
        task = self.task
        return records.RecordBuilder(
            self.started,
            {
                "task_family": task.get_task_family(),
                "task_id": task.task_id,
                "task_hash": task.task_hash,
                "params": public_params(task),
                "run": self._run_facts(),
                "code": code_identity(task),
                "environment": environment(task),
                "input": graph.map_structure(inputs.reference, self._inputs),
            },
        )

    @lazy
    def reader(self) -> values.Reader:
        """Opens inputs until the attempt ends."""
        return values.Reader(self.stack)

    # ---- the life of an attempt

    def steps(self, user_run: Callable[..., object]) -> Generator[object, Any, object]:
        """Yield what `run` yields, take what Luigi answers, return what `run` returns, commit in between."""
        targets = self._targets()
        mistakes.refuse_dropped(user_run, type(self.task).requires)
        arguments: dict[str, object] = {}
        with self.stack, mistakes.explained(self.task, self.stage_paths, arguments):
            attempts = self.task.__dict__.setdefault("_superluigi_attempts", {})
            attempts[threading.get_ident()] = self
            try:
                self.begin(targets)
                if self.task.init:
                    init_steps.run_steps(self.task, self.reader)
                arguments.update(self.bind(user_run, (), {}))
                if getattr(self.task, "chdir", False) is True:
                    self.stack.enter_context(at(str(self.task_dir)))
                with ends_forks():
                    value = user_run(self.task, **arguments)
                    if inspect.isgenerator(value):
                        value = yield from follow(value, self._ask)
                refuse_async(value, self.task)
                with at(self.folder):
                    self.end(user_run, value)
            finally:
                for thread in [thread for thread, attempt in attempts.items() if attempt is self]:
                    del attempts[thread]
        return value

    def stage_paths(self) -> list[Path]:
        """Where `run` was to write its outputs."""
        return []

    def begin(self, targets: object) -> None:
        """Prepare before `run` is called."""
        self._refuse_anothers(targets)
        self.folder = current_folder()
        self.record  # noqa: B018  (what is known before the run is looked up before the run)

    def _refuse_anothers(self, targets: object) -> None:
        if runs.is_luigis():
            outputs.refuse_anothers(self.task, graph.flatten(targets))

    def resumed(self) -> None:
        """After a `yield`: what was asked for is there."""

    def end(self, user_run: Callable[..., object], value: object) -> None:
        """Publish after `run` has ended without an error."""
        del user_run, value
        mixin.before_commit(self.task)
        record = self._finished_record()
        for target in graph.flatten(outputs.validated(self.task)):  # anew: they may depend on what `run` did
            if not target.location.has_data():
                raise OutputNotWrittenError(
                    f"{self.task} ended, but its output {target} is not there. Write it in run()."
                )
            target.location.write_record(record)

    def bind(
        self, user_run: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> dict[str, object]:
        """Keyword arguments for a call of `user_run`: those given, and from here those it asks for by name."""
        names, takes_all = _asked_names(user_run)
        taken = set(names[: len(args)])
        filled = dict(kwargs)
        wanted = self._offered if takes_all and not args and not kwargs else names
        for name in wanted:
            if name in self.task.run_names and name not in filled and name not in taken:
                filled[name] = getattr(self, name)
        return filled

    @property
    def _offered(self) -> frozenset[str]:
        """What a `run` gets that takes everything."""
        names = self.task.run_names
        return names if getattr(self.task, "resumable", False) else names - {"checkpoint_path"}

    def resolve_yield(self, requirement: object, paths: object) -> object:
        """What a `yield` gives to `run`: here, as in Luigi, the targets."""
        del requirement
        return paths

    # ---- parts

    def _ask(self, requirement: object) -> Generator[object, Any, object]:
        if requirement is None:
            raise DefinitionError(
                f"A yield in run() of {self.task} gave None. Yield a task, or lists and dicts of tasks; "
                "[] asks for nothing."
            )
        with at(self.folder):
            wanted = settled(requirement, self.task)
        targets = yield requirement if isinstance(requirement, DynamicRequirements) else wanted.requirements
        with at(self.folder):
            self.record.add_dynamic_input(inputs.dynamic_references(wanted.requirements))
            self.resumed()
        return self.resolve_yield(requirement, targets)

    def _finished_record(self, checks: Sequence[Record] = ()) -> Record:
        record = self.record.finish(records.utc_now(), checks)
        mixin.note_seed(self.task, record["run"])  # only now it is known whether the generators were its alone
        return record

    def _run_facts(self) -> dict[str, object]:
        reason = None if self.run.refresh is None else self.run.refresh.must_run(self.task)
        forced = self.run.refresh is None and self.run.forces(self.task)
        return {
            "id": self.run.id,
            "parent": None,
            "attempt": 1,
            "forced": forced,
            "reason": "forced" if forced else reason.word if reason is not None else "output missing",
            **mixin.facts(self.task),
        }

    @lazy
    def _shaped_targets(self) -> object:
        return outputs.validated(self.task)

    def _targets(self) -> object:
        return self._shaped_targets


class AtomicAttempt(TaskAttempt):
    """An attempt that reads copies, writes into stages, and commits all outputs with their records."""

    # ---- what run may ask for by name

    @lazy
    def input_path(self) -> object:
        """Temporary paths holding the inputs, in the shape of `requires()`."""
        return self._read(self._inputs)

    @lazy
    def output_path(self) -> object:
        """Temporary paths to write, in the shape of `output()`."""
        return graph.map_structure(lambda staged: staged.path, self._staged)

    @lazy
    def inputs(self) -> object:
        """The values of the inputs, in the shape of `requires()`, each loaded when it is first looked at."""
        return values.lazy(values.input_structure(self.task), self._value, values.inputs_annotation(self.task))

    # ---- the life of an attempt

    def begin(self, targets: object) -> None:
        """Open a stage for every output, dropped again unless all goes well."""
        super().begin(targets)
        forced = self.run.forces(self.task)
        if forced:  # it replaces what is there when it begins, whatever was there when the run was planned
            for target in graph.flatten(targets):
                target.location.forget_looks()
        # through the location: a target would join what another attempt at this task is writing
        self._staged = graph.map_structure(lambda target: self.stack.enter_context(target.location.stage()), targets)
        pairs = list(zip(graph.flatten(targets), graph.flatten(self._staged), strict=True))
        self._watch = strays.Watch(self.task, forced, pairs)
        self.stack.push(self._watch.end)
        self.stack.enter_context(joining.joined((target.location, staged) for target, staged in pairs))

    def stage_paths(self) -> list[Path]:
        """The stages, as far as they have been opened."""
        return [staged.path for staged in graph.flatten(getattr(self, "_staged", ()))]

    def resumed(self) -> None:
        """Begin again from the top, as if the `yield` had had to wait, when the outputs are known only by now."""
        if not graph.flatten(self._staged) and graph.flatten(self.task.output()):
            raise GracefulTimeout("What it has yielded tells its outputs, which were not known when it began.")

    def end(self, user_run: Callable[..., object], value: object) -> None:
        """Save the returned value, prepare all stages, let checks look at them, then commit all."""
        self._refuse_anothers(self._targets())
        self._watch.adopt()
        values.save_returned(self.task, user_run, value, self._staged, self._targets())
        in_place = self._watch.left_in_place()
        stages: list[StagedWrite] = graph.flatten(self._staged)
        if not stages and graph.flatten(self.task.output()):
            raise DefinitionError(
                f"{self.task} had no output when it began and has {self.task.output()!r} now, which was not watched "
                "being written. Let what output() depends on be there before: require it, or yield it first."
            )
        for staged in stages:
            if staged not in in_place:
                staged.prepare()
        targets: list[AtomicTarget] = graph.flatten(self._targets())
        pairs = list(zip(stages, targets, strict=True))
        # Who loses a race is to lose it before it has replaced anything of the winner's: its outputs would be a mix.
        decisive = [pair for pair in pairs if pair[1].location.refuses_latecomers]
        others = [pair for pair in pairs if pair not in decisive]
        try:
            record = self._checked_record(stages, in_place)
            mixin.before_commit(self.task)
            self._commit(decisive, in_place, record)
            with published_together(target.location for _, target in others):
                self._commit(others, in_place, record)
        except CommitConflictError:
            ours = self._finished_record()
            if not rivals.made_it(self.task, self.run, ours, targets, self._watch.was_there):
                raise  # else all of theirs is there, which is all that was wanted

    def _checked_record(self, stages: Sequence[StagedWrite], in_place: Collection[StagedWrite]) -> Record:
        """The finished record, once all checks of the task have passed.

        Raises:
            CheckFailedError: one has not; what was staged is in quarantine.
        """
        task = self.task
        if not has_checks(task):
            return self._finished_record()
        if in_place:
            raise DefinitionError(
                f"{task} has checks, but wrote its output itself, where others see it already. Write to output_path, "
                "or through self.output()."
            )
        found = checking.of_staged(
            task, self._staged, self._targets(), self.reader, lambda: self.metadata, lambda: self.inputs
        )
        record = self._finished_record([one.as_json() for one in found])
        name = f"{self.run.id}-{record['run']['attempt']}"
        mixin.before_commit(task)  # a check that was cancelled has rejected nothing
        checking.refuse(task, found, record, [staged.path for staged in stages], name)
        return record

    def _commit(
        self, pairs: Iterable[tuple[StagedWrite, AtomicTarget]], in_place: Collection[StagedWrite], record: Record
    ) -> None:
        for staged, target in pairs:
            if staged in in_place:
                target.location.write_record(record)
            else:
                staged.commit(record)

    def resolve_yield(self, requirement: object, paths: object) -> object:
        """What a `yield` gives to `run`: temporary paths holding what was asked for."""
        return paths if answers_itself(requirement) else self._read(paths)

    # ---- parts

    def _read(self, targets: object) -> object:
        shared = self.task.read_mode == "shared"
        return graph.map_structure(lambda target: self.stack.enter_context(inputs.open_input(target, shared)), targets)

    def _value(self, *args: Any) -> object:
        """The value of an input, looked at by a task that may have gone to another folder."""
        with at(self.folder):
            return self.reader.value(*args)


@functools.lru_cache(maxsize=4096)
def _asked_names(user_run: Callable[..., object]) -> tuple[tuple[str, ...], bool]:
    """The names after `self` in the signature of a `run`, and whether it takes any other."""
    parameters = inspect.signature(user_run).parameters
    return tuple(parameters)[1:], any(p.kind is p.VAR_KEYWORD for p in parameters.values())
