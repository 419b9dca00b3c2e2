"""Tables that several threads change are copied in one step: between any two steps another thread may have its turn."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from superluigi import config
from superluigi.storage.local.stages import staging
from superluigi.tasks.runtime.workspace import inbox

NOT_MINE = SimpleNamespace(is_gone=False, pid=0, name="", folder="elsewhere", is_tried=True)


@pytest.mark.parametrize(
    ("table", "look"),
    [
        ((inbox, "_mine"), lambda _: inbox.answer(lambda *_: False)),
        ((staging, "_abandoned"), lambda folder: staging.sweep(folder, always=True)),
    ],
    ids=["workspaces", "left-overs"],
)
def test_a_look_through_a_table_is_not_disturbed_by_those_who_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: tuple[Any, str], look: Callable[[Path], object]
) -> None:
    """Python 3.11 collects garbage at any step; what that calls may change the table, as another thread may."""
    entries: dict[Any, Any] = {f"{number}": NOT_MINE for number in range(100)}
    monkeypatch.setattr(*table, entries)
    changes: list[object] = []

    def change(phase: str, _about: dict[str, int]) -> None:
        if phase == "start":
            changes.append(entries.pop("comes and goes", None) or entries.setdefault("comes and goes", NOT_MINE))

    before = gc.get_threshold()
    gc.callbacks.append(change)
    gc.set_threshold(1, 10**6)
    try:
        for _ in range(20):
            look(tmp_path)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(change)
    assert changes


def test_the_environment_is_read_whole_while_a_thread_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAYS", "here")
    over = threading.Event()

    def change() -> None:
        for number in itertools.cycle(range(1000)):
            os.environ[f"COMES_AND_GOES_{number}"] = "x"
            os.environ.pop(f"COMES_AND_GOES_{number}")
            if over.is_set():
                return

    before = sys.getswitchinterval()
    thread = threading.Thread(target=change)
    thread.start()
    try:
        sys.setswitchinterval(1e-6)
        assert {config.environment()["STAYS"] for _ in range(2000)} == {"here"}
    finally:
        sys.setswitchinterval(before)
        over.set()
        thread.join()
