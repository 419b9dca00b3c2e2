"""The run of a submission as text in the queue, and the surroundings that its tasks expect."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from superluigi.errors import OptionError

if TYPE_CHECKING:
    from superluigi.runs.context import RunContext


@dataclass(frozen=True)
class QueueEnvironment:
    """Where the tasks of a run are to be found and run: the submitter's folder, import path, Luigi config."""

    folder: str
    path: tuple[str, ...]
    luigi_config: str | None
    #: The number of the submitting execution in the paths of Luigi's `RunAnywayTarget`; 0 where they are not used.
    execution: int = 0

    @classmethod
    def current(cls) -> QueueEnvironment:
        """Those of this process; what every Python has on its path is left out."""
        from superluigi.execution import mocks

        shared = (sys.prefix, sys.base_prefix, sys.exec_prefix)
        own = [os.path.abspath(entry or ".") for entry in sys.path if not entry.startswith(shared)]
        file = os.environ.get("LUIGI_CONFIG_PATH")
        config = os.path.abspath(file) if file else None
        return cls(str(Path.cwd()), tuple(dict.fromkeys(own)), config, mocks.export_files(near=False).execution)

    def environment(self) -> dict[str, str]:
        """What to add to the environment of a process that works in these surroundings."""
        return {"LUIGI_CONFIG_PATH": self.luigi_config} if self.luigi_config else {}


class Sample(NamedTuple):
    """One task of a class (module, name, digest if stored by value), and its `execution.addresses` when submitted."""

    where: tuple[str, str, str | None]
    task_id: str
    params: str
    addresses: tuple[tuple[str, ...], ...] | None


def encode(run: RunContext, surroundings: QueueEnvironment, samples: Sequence[Sample] = ()) -> str:
    """JSON text of a run, for `decode`.

    Raises:
        OptionError: an option of the run that JSON cannot hold.
    """
    value = {
        "id": run.id,
        "started": run.started.timestamp(),
        "ids": sorted(run.plan.ids),
        "everything": run.plan.everything,
        "families": sorted(run.plan.families),
        "force_local_download": run.force_local_download,
        "store": run.store,
        "options": {"config": run.config, "environment": run.environment, "exclusive": run.exclusive},
        "surroundings": [surroundings.folder, surroundings.path, surroundings.luigi_config],
        "execution": surroundings.execution,
        "samples": samples,
    }
    try:
        if run.refresh is not None or run.made_before:
            raise TypeError("refresh= and resume= belong to one process")
        return json.dumps(value)
    except TypeError as error:
        raise OptionError(f"The run has an option that cannot be kept in a queue: {error}.") from error


@dataclass(frozen=True)
class RunInfo:
    """What a worker needs to know of a run. Reading it imports no Luigi: workers start in half the time."""

    surroundings: QueueEnvironment
    forces: bool


def brief(text: str) -> RunInfo:
    """The part for workers of what `encode` made."""
    value: dict[str, object] = json.loads(text)
    forces = bool(value["everything"] or value["ids"] or value["families"])
    return RunInfo(_surroundings(value), forces)


def decode(text: str) -> tuple[RunContext, QueueEnvironment, list[Sample]]:
    """The run, the surroundings and the samples that `encode` made the text from."""
    from superluigi.runs.context import RunContext
    from superluigi.runs.force import ForcePlan

    value: dict[str, Any] = json.loads(text)
    run = RunContext(
        id=value["id"],
        started=datetime.fromtimestamp(value["started"], timezone.utc),
        plan=ForcePlan(frozenset(value["ids"]), value["everything"], frozenset(value["families"])),
        force_local_download=value["force_local_download"],
        store=value["store"],
        config=value["options"].get("config"),
        environment=value["options"].get("environment"),
        exclusive=value["options"].get("exclusive"),
    )
    samples = [
        Sample(tuple(where), task_id, params, tuple(map(tuple, addresses or ())))
        for where, task_id, params, addresses in value.get("samples", ())
    ]
    return run, _surroundings(value), samples


def _surroundings(value: dict[str, Any]) -> QueueEnvironment:
    folder, path, luigi_config = value["surroundings"]
    return QueueEnvironment(folder, tuple(path), luigi_config, value.get("execution", 0))
