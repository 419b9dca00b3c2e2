"""A Dask cluster for tests: scheduler and workers as separate processes on loopback ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


class DaskCluster:
    """A Dask scheduler and two workers (with nannies) as processes on loopback ports."""

    def __init__(self, folder: Path, workers: int = 2, *options: str) -> None:
        self._folder = folder
        self._workers = workers
        self._options = options
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> str:
        file = self._folder / "scheduler.json"
        self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0",
            "--scheduler-file", str(file),
        )  # fmt: skip
        for _ in range(self._workers):
            self._start(
                "worker", "--scheduler-file", str(file), "--host", "127.0.0.1", "--nthreads", "1",
                "--dashboard-address", "127.0.0.1:0", "--local-directory", str(self._folder), "--no-dashboard",
                *self._options,
            )  # fmt: skip
        from distributed import Client

        with Client(scheduler_file=str(file), timeout=30, set_as_default=False) as client:
            client.wait_for_workers(self._workers, timeout=60)
        address: str = json.loads(file.read_text())["address"]
        return address

    def _start(self, role: str, *args: str) -> None:
        log = (self._folder / f"{role}.log").open("ab")
        with log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "distributed.cli.dask_" + role, *args],
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                    start_new_session=True,
                    env={**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"},
                )
            )

    def __exit__(self, *exc_info: object) -> None:
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
