"""One attempt: where it may run, how it travels there, what it says while it runs, how it ended.

Imports `runs` and below; `process/` is what surrounds an attempt in its process. On from here: `worker_process` runs
attempts in other processes, `engine` hands them over and collects their results. In this file: names →
`concurrent.futures` executors.

Built-in and foreign names enter by the same door: a name stands for a dotted path that is imported on
first use. Other packages add names by the entry point group `superluigi.executors`; each entry is a
callable `(name, max_workers) -> concurrent.futures.Executor`, where `name` is what the user wrote.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from concurrent.futures import Executor
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from superluigi.errors import OptionError

ENTRY_POINTS = "superluigi.executors"

#: Name → `module:callable`.
BUILT_IN = {
    "threads": "superluigi.execution.threads:named",
    "processes": "superluigi.worker_process.pool:named",
    "dask": "superluigi.execution.dask:local_cluster",
}
#: An address of a Dask scheduler begins with one of these.
DASK_SCHEMES = ("tcp://", "tls://", "ws://", "wss://", "ucx://", "inproc://")

Factory = Callable[[str, int], Executor]


def names() -> list[str]:
    """Every name that `executor=` takes now."""
    return sorted({*BUILT_IN, *(point.name for point in _foreign())})


def refuse_unknown(spec: object) -> None:
    """Refuse what stands for no executor, before anything is made.

    Raises:
        OptionError: `spec` is no name, Dask address or Client, and no `concurrent.futures.Executor`.
    """
    if isinstance(spec, str):
        _factory(spec)
    elif spec is not None and not isinstance(spec, Executor) and not _is_dask_client(spec):
        raise OptionError(
            f"executor={spec!r} is not an executor. Give one of {', '.join(map(repr, names()))}, the address of a "
            "Dask scheduler ('tcp://host:port'), a dask.distributed.Client or a concurrent.futures.Executor."
        )


def make(spec: Any, max_workers: int) -> tuple[Executor, bool]:
    """The executor that `spec` stands for, and whether it is ours to shut down.

    Raises:
        OptionError: `refuse_unknown`.
        MissingDependencyError: the name needs a package that is not installed.
    """
    refuse_unknown(spec)
    if isinstance(spec, str):
        return _factory(spec)(spec, max_workers), True
    if isinstance(spec, Executor):
        return spec, False
    from superluigi.execution.dask import DaskExecutor

    return DaskExecutor(spec), True  # the wrapper is ours; it leaves the client open


def _factory(name: str) -> Factory:
    dotted = "superluigi.execution.dask:connected" if name.startswith(DASK_SCHEMES) else BUILT_IN.get(name)
    if dotted is not None:
        factory: Factory = pkgutil.resolve_name(dotted)
        return factory
    for point in _foreign():
        if point.name == name:
            return _load_foreign(point)
    batch = name in ("slurm", "lsf", "sge", "pbs", "htcondor")
    hint = " Jobs of a batch system work for a queue: Queue(…, pools={'default': Pool(4, provider='slurm')})."
    raise OptionError(
        f"executor={name!r} is unknown. Known names: {', '.join(names())}; or give the address of a Dask "
        f"scheduler ('tcp://host:port').{hint if batch else ''}"
    )


def _load_foreign(point: EntryPoint) -> Factory:
    try:
        factory: Factory = point.load()
    except Exception as error:
        raise OptionError(
            f"executor={point.name!r} comes from {point.value!r}, which cannot be loaded: {error}"
        ) from error
    return factory


def _foreign() -> list[EntryPoint]:
    return list(entry_points(group=ENTRY_POINTS))


def _is_dask_client(spec: object) -> bool:
    return any(c.__module__.startswith("distributed.") and c.__name__ == "Client" for c in type(spec).__mro__)
