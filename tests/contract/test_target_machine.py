"""Random histories of commits, failures, deaths and cleans, against a dict that says what must be there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from superluigi.storage.local.cleanup import clean
from superluigi.testing import fault_injection
from superluigi.testing.s3_server import S3Server
from superluigi.testing.target_suite import (
    LocalFileRig,
    LocalFolderRig,
    S3ObjectRig,
    S3PrefixRig,
    TargetRig,
    look,
    publish,
)

NAMES = st.sampled_from(["a", "b"])
STEPS = st.integers(min_value=1, max_value=16)


class Store(RuleBasedStateMachine):
    """Two outputs in one place; the oracle maps a name to the versions of which one must be there, or None.

    It is one version, but where the output may be absent between two (a prefix): the next commit there, if only
    in vain, may first finish what a dead writer began.
    """

    make: Any  # () -> (rig, clean-up)

    @initialize()
    def begin(self) -> None:
        self.rig, self.end = type(self).make()
        self.oracle: dict[str, set[str | None]] = {"a": {None}, "b": {None}}
        self.version = 0

    def next_version(self) -> str:
        self.version += 1
        return f"v{self.version}"

    @rule(name=NAMES)
    def commit(self, name: str) -> None:
        text = self.next_version()
        publish(self.rig, text, name)
        self.oracle[name] = {text}

    @rule(name=NAMES)
    def fail_in_the_writer(self, name: str) -> None:
        with contextlib.suppress(ZeroDivisionError), self.rig.target(name).tmp_write_path() as path:
            self.rig.write(path, self.next_version())
            raise ZeroDivisionError

    @rule(name=NAMES, n=STEPS, how=st.sampled_from(["error", "interrupt"]))
    def stop_in_the_commit(self, name: str, n: int, how: fault_injection.How) -> None:
        text = self.next_version()
        with contextlib.suppress(OSError, KeyboardInterrupt), fault_injection.stopping_at(n, how):
            publish(self.rig, text, name)
        self.settle(name, text)

    @rule(name=NAMES, n=STEPS)
    def die_in_the_commit(self, name: str, n: int) -> None:
        text = self.next_version()
        fault_injection.stopped_in_child(n, "death", publish, self.rig, text, name)
        self.settle(name, text)

    def settle(self, name: str, text: str) -> None:
        absent: set[str | None] = {None} if isinstance(self.rig, S3PrefixRig) else set()
        self.check(name, self.oracle[name] | {text} | absent)

    def check(self, name: str, possible: set[str | None]) -> None:
        seen, recorded = look(self.rig, name)
        assert seen == recorded and seen in possible, (name, seen, recorded, possible)
        self.oracle[name] = possible if seen is None and isinstance(self.rig, S3PrefixRig) else {seen}

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.rig.target(name).remove()
        self.oracle[name] = {None}

    @rule()
    def clean(self) -> None:
        if isinstance(self.rig, LocalFileRig):
            clean(self.rig.folder)
            assert self.rig.leftovers() == []

    @invariant()
    def everything_is_whole_and_agrees_with_its_record(self) -> None:
        for name, possible in getattr(self, "oracle", {}).items():
            self.check(name, possible)

    def teardown(self) -> None:
        if hasattr(self, "end"):
            self.end()


def machine(make: Any) -> type[Store]:
    return type("Machine", (Store,), {"make": staticmethod(make)})


def run(make: Any, examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine(make),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def local(kind: Any) -> Any:
    def make() -> tuple[TargetRig, Any]:
        folder = Path(tempfile.mkdtemp(prefix="superluigi-machine-"))
        return kind(folder), lambda: shutil.rmtree(folder)

    return make


def on_s3(kind: Any, server: S3Server) -> Any:
    def make() -> tuple[TargetRig, Any]:
        return kind(server.create_bucket(), dict(server.client_options)), lambda: None

    return make


@pytest.mark.parametrize("kind", [LocalFileRig, LocalFolderRig])
def test_any_history_on_local_disk_keeps_the_promises(kind: Any) -> None:
    run(local(kind), examples=12, steps=14)


@pytest.mark.parametrize("kind", [LocalFileRig, LocalFolderRig])
@pytest.mark.parametrize("again", [1, 2, 3])
def test_what_twice_could_not_be_removed_is_removed_by_clean(kind: Any, again: int) -> None:
    """By the process that made it, too, whichever step of its commits it was that failed."""
    for n in range(1, 17):
        store = machine(local(kind))()
        store.begin()
        try:
            store.stop_in_the_commit("a", n, "error")
            store.stop_in_the_commit("a", again, "error")
            store.clean()
        finally:
            store.teardown()


@pytest.mark.parametrize("kind", [S3ObjectRig, S3PrefixRig])
def test_any_history_on_s3_keeps_the_promises(kind: Any, s3_server: S3Server) -> None:
    run(on_s3(kind, s3_server), examples=4, steps=8)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [LocalFileRig, LocalFolderRig, S3ObjectRig, S3PrefixRig])
def test_long_histories_keep_the_promises(kind: Any, s3_server: S3Server) -> None:
    run(local(kind) if issubclass(kind, LocalFileRig) else on_s3(kind, s3_server), examples=100, steps=30)
