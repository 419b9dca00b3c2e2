"""Workers as Slurm jobs: `sbatch` starts them, one `squeue` tells of all, `scancel` ends them by name."""

from __future__ import annotations

import getpass
import math
import os
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from superluigi.errors import MissingDependencyError, OptionError, QueueError
from superluigi.queue.providers import WorkerOrder

#: How long before its walltime Slurm tells a worker to end (SIGTERM), so that it can put its task back.
WARNING_SECONDS = 30
_TIMEOUT_SECONDS = 60
_MAX_SILENCES = 20
_SHOWN_CHARACTERS = 2000
#: How long a job that we have submitted counts although `squeue` has not shown it yet.
UNSEEN_SECONDS = 60.0


class SlurmProvider:
    """Submits jobs; another spawner finds them by their names.

    What `squeue` does not show yet counts for a minute, so that a controller that is busy is not given the same again.

    `Pool.options` become `sbatch` options: `{"partition": "gpu", "mem": "8G", "exclusive": True}`.
    """

    def __init__(self) -> None:
        self._answer: Counter[str] = Counter()
        self._silences = 0
        #: Label -> when (by `time.monotonic`) jobs were submitted that `squeue` has not shown.
        self._unseen: dict[str, list[float]] = {}

    def start(self, order: WorkerOrder) -> None:
        """Submit one job that runs one worker.

        Raises:
            QueueError: Slurm refuses; its own words are in the message.
        """
        folder = Path(order.logs)
        folder.mkdir(parents=True, exist_ok=True)
        options = [
            "--parsable",
            f"--job-name={order.label}",
            f"--output={folder}/slurm-%j.out",
            f"--signal=B:TERM@{WARNING_SECONDS}",
            "--no-requeue",  # the lease brings the task back; a second copy of the job would be one too many
        ]
        if order.pool.longest is not None:
            options.append(f"--time={math.ceil(order.pool.longest.total_seconds() / 60)}")
        script = f"#!/bin/sh\nexec {shlex.join(order.command)}\n"
        _run(["sbatch", *options, *_options(order.pool.options)], script)
        self._unseen.setdefault(order.label, []).append(time.monotonic())

    def alive(self, prefix: str) -> Mapping[str, int]:
        """Jobs that wait or run, by name: one `squeue` for all pools.

        A controller that is busy for a while must not end the spawner: the last answer stands in.

        Raises:
            QueueError: it has not answered several times in a row.
        """
        try:
            listed = _run(["squeue", "--noheader", f"--user={_user()}", "--format=%j"])
        except QueueError:
            self._silences += 1
            if self._silences >= _MAX_SILENCES:
                raise
        else:
            self._silences = 0
            now = Counter(map(str.strip, listed.splitlines()))  # names may hold spaces
            for label, since in self._unseen.items():
                shown = max(0, now[label] - self._answer[label])
                self._unseen[label] = [moment for moment in since[shown:] if time.monotonic() - moment < UNSEEN_SECONDS]
            self._answer = now
        names = {name for name in (*self._answer, *self._unseen) if name.startswith(prefix)}
        return {name: found for name in names if (found := self._answer[name] + len(self._unseen.get(name, ())))}

    def cancel(self, label: str) -> None:
        """Cancel the jobs of that name; those that run get SIGTERM first and put their tasks back."""
        _run(["scancel", f"--user={_user()}", f"--name={label}"])

    def close(self, *, wait: bool) -> None:
        """Nothing to do: jobs are Slurm's."""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        return str(os.getuid())


def _options(options: Mapping[str, object]) -> list[str]:
    """`{"cpus_per_task": 4, "exclusive": True}` -> `--cpus-per-task=4 --exclusive`."""
    words = []
    for key, value in options.items():
        if not key.replace("_", "").replace("-", "").isalnum():
            raise OptionError(f"{key!r} is no name of an sbatch option, such as 'partition' or 'cpus_per_task'.")
        flag = f"--{key.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words.append(f"{flag}={value}")
    return words


def _run(command: list[str], script: str | None = None) -> str:
    try:
        done = subprocess.run(
            command, input=script, capture_output=True, encoding="utf-8", errors="replace",
            timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MissingDependencyError(
            f"{command[0]} is not on this machine: a pool with provider='slurm' needs a spawner on a host of the "
            "cluster (its login node, say)."
        ) from error
    except OSError as error:  # it may not be run, or nothing may now
        raise QueueError(f"{command[0]} cannot be run: {error}.") from error
    except subprocess.TimeoutExpired as error:
        raise QueueError(f"{command[0]} did not answer within {_TIMEOUT_SECONDS} seconds.") from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise QueueError(f"{shlex.join(command)} failed ({done.returncode}): {said[:_SHOWN_CHARACTERS]}")
    return done.stdout
