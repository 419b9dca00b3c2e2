"""What a call in a `ProcessExecutor` is told before a process makes it."""

from __future__ import annotations

import queue
from pathlib import Path

from superluigi.execution.process.parent import parent
from superluigi.worker_process.pool import ProcessExecutor


def _wait_for(path: str) -> None:
    while not Path(path).exists():
        pass


def _heard(key: str) -> list[object]:
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()
    parent.listen(key, heard.put)
    return [heard.get(timeout=60), heard.get(timeout=60)]


def test_a_call_that_waits_for_a_process_hears_in_order_what_it_was_told_meanwhile(tmp_path: Path) -> None:
    with ProcessExecutor(1) as executor:
        first = executor.submit(_wait_for, str(tmp_path / "go"))
        waiting = executor.submit(_heard, "key")
        assert executor.send(waiting, "key", 1)
        assert executor.send(waiting, "key", 2)
        (tmp_path / "go").touch()
        assert waiting.result(60) == [1, 2]
        first.result(60)
        assert not executor.send(waiting, "key", 3)
