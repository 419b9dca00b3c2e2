"""Where workers come from: `local` processes, `slurm` jobs, others by entry point.

A provider is a class with three functions (and `close`), named in the entry point group
`superluigi.queue.providers`; a pool chooses one by name: `Pool(4, provider="slurm")`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol

from superluigi import config
from superluigi.errors import OptionError
from superluigi.queue.models import Pool

GROUP = "superluigi.queue.providers"
#: Ours enter by the plugins' door: name -> dotted path, imported on first use.
_BUILT_IN = {
    "local": "superluigi.queue.providers.local:LocalProvider",
    "slurm": "superluigi.queue.providers.slurm:SlurmProvider",
}


@dataclass(frozen=True)
class WorkerOrder:
    """One worker to start."""

    #: Says for whom: `superluigi-<queue>-<pool>`; the same for all workers of a pool.
    label: str
    command: tuple[str, ...]
    #: A folder for what the worker itself prints.
    logs: str
    #: Its walltime and options are the provider's to respect.
    pool: Pool


class Provider(Protocol):
    """Starts workers somewhere. One instance serves one spawner."""

    def start(self, order: WorkerOrder) -> None:
        """Start, or queue, one worker.

        Raises:
            QueueError: it cannot be started; the message says why.
        """

    def alive(self, prefix: str) -> Mapping[str, int]:
        """How many workers wait or run under each label that begins with `prefix`; asked for all at once."""

    def cancel(self, label: str) -> None:
        """End the workers of `label`; fine when there are none."""

    def close(self, *, wait: bool) -> None:
        """The spawner ends; with `wait`, return once workers that end by themselves have done so."""


def load(name: str) -> Provider:
    """A provider by name.

    Raises:
        OptionError: there is none of that name, or it cannot be imported.
    """
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    known = {**points, **_BUILT_IN}
    if name not in known:
        raise OptionError(
            f"There is no provider {name!r}. Known: {', '.join(sorted(known))}.{config.suggestion(name, known)}"
        )
    module, _, attribute = known[name].partition(":")
    try:
        provider: Provider = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise OptionError(f"Provider {name!r} ({known[name]}) cannot be loaded: {error}") from error
    return provider
