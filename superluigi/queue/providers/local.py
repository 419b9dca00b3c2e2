"""Workers as processes of this host."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from superluigi.errors import QueueError
from superluigi.queue.providers import WorkerOrder

#: Workers that end this often right after their start cannot work at all.
_MAX_FAILURES = 5
_SOON_SECONDS = 5.0


class LocalProvider:
    """Starts processes that outlive the spawner; ends only those that it started itself."""

    def __init__(self) -> None:
        self._processes: dict[str, list[tuple[float, Path, subprocess.Popen[bytes]]]] = defaultdict(list)
        self._failures = 0
        self._count = 0

    def start(self, order: WorkerOrder) -> None:
        """Start one process.

        Raises:
            QueueError: the last few ended with an error at once; has the last words of the latest.
        """
        folder = Path(order.logs)
        folder.mkdir(parents=True, exist_ok=True)
        self._count += 1
        log = folder / f"{order.label}-{int(time.time())}-{self._count}.out"
        with log.open("ab") as file:
            process = subprocess.Popen(
                order.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # it outlives us: a killed spawner must not take its workers along
            )
        self._processes[order.label].append((time.monotonic(), log, process))

    def alive(self, prefix: str) -> Mapping[str, int]:
        """Processes of this provider that run; those that another spawner started are in the table of workers."""
        found: Counter[str] = Counter()
        for label, started in self._processes.items():
            still = []
            for moment, log, process in started:
                code = process.poll()
                if code is None:
                    still.append((moment, log, process))
                else:
                    self._ended(code, moment, log)
            self._processes[label] = still
            found[label] += len(still) if label.startswith(prefix) else 0
        return found

    def _ended(self, code: int, started: float, log: Path) -> None:
        failed_at_once = code > 0 and time.monotonic() - started < _SOON_SECONDS
        self._failures = self._failures + 1 if failed_at_once else 0
        with contextlib.suppress(OSError):
            if code == 0 and not log.stat().st_size:
                log.unlink()  # it had nothing to say
        if self._failures >= _MAX_FAILURES:
            words = log.read_text(errors="replace")[-2000:]
            raise QueueError(f"Workers end right after their start (exit code {code}, {log}):\n{words}")

    def cancel(self, label: str) -> None:
        """SIGTERM to processes that this provider started: they put back what they run."""
        for _, _, process in self._processes.get(label, ()):
            if process.poll() is None:
                process.terminate()

    def close(self, *, wait: bool) -> None:
        """Wait for workers that see by themselves that nothing is left to do."""
        deadline = time.monotonic() + 10.0
        for started in self._processes.values():
            for _, log, process in started:
                code: int | None = process.poll()
                if code is None and wait:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        code = process.wait(max(0.1, deadline - time.monotonic()))
                if code is None:
                    process.returncode = 0  # it is no child any more: no warning when we forget it
                elif code == 0 and log.exists() and not log.stat().st_size:
                    log.unlink()
