"""Dask as an executor: a local cluster, the address of a scheduler, or a Client."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from superluigi.errors import ExecutionError, ExecutorLostError, MissingDependencyError, WorkerLostError

if TYPE_CHECKING:
    from distributed import Client

#: How long the scheduler may take to answer when we connect.
CONNECT_SECONDS = 15
_numbers = itertools.count()


def local_cluster(name: str, max_workers: int) -> DaskExecutor:
    """`executor="dask"`: a cluster on this machine, of `max_workers` processes, that ends with the run.

    Raises:
        ExecutorLostError: its processes cannot import the program that is run, or do not start for another reason.
    """
    distributed = _distributed()
    with contextlib.ExitStack() as stack:
        # Daemons may have no children, so that pools in tasks would fail; asked for again when a worker is replaced.
        stack.enter_context(importlib.import_module("dask").config.set({"distributed.worker.daemon": False}))
        try:
            cluster = distributed.LocalCluster(
                n_workers=max_workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                worker_dashboard_address=None,
                # Without a dashboard Dask still asks for the dashboard's port, which another run has, and warns.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                silence_logs=40,
            )
        except RuntimeError as error:  # its processes have told why, but not here
            raise ExecutorLostError(
                f"The local Dask cluster could not be started ({error}). Its processes import the program that starts "
                f"it, here {getattr(sys.modules['__main__'], '__file__', 'none')}: that must be a file, not typed or "
                "read from stdin, and what starts runs must stand under `if __name__ == '__main__':` in it. "
                "executor='processes' needs neither."
            ) from error
        return DaskExecutor(distributed.Client(cluster, set_as_default=False), closes=[cluster, stack.pop_all()])


def connected(address: str, max_workers: int) -> DaskExecutor:
    """`executor="tcp://…"`: the Dask scheduler at that address.

    Raises:
        ExecutorLostError: nothing answers there.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ExecutorLostError(
            f"No Dask scheduler answers at {address} within {CONNECT_SECONDS} seconds: {error}. Is it running "
            "(`dask scheduler`), and may this host reach the port?"
        ) from error
    return DaskExecutor(client, closes=[client])


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingDependencyError("Dask execution needs dask: pip install 'superluigi[dask]'") from error
    return distributed


class DaskExecutor(Executor):
    """Calls run as Dask tasks, each once: never deduplicated, never kept.

    A future gives WorkerLostError when the workers that tried died, and ExecutorLostError
    when the scheduler is lost.
    """

    def __init__(self, client: Client, closes: list[Any] | None = None) -> None:
        self.client = client
        self._closes = closes or []
        self._futures: dict[Future[object], Any] = {}
        self._lost: ExecutorLostError | None = None
        self._address = client.scheduler.address if client.scheduler is not None else "?"

    def options_for(self, resources: Mapping[str, int] | None) -> dict[str, Any]:
        """Keyword arguments of `submit` so that Dask honours those resources that its workers declare."""
        declared: set[str] = set()
        for worker in self.client.scheduler_info(n_workers=-1)["workers"].values() if resources else ():
            declared.update(worker.get("resources") or {})
        honoured = {name: amount for name, amount in (resources or {}).items() if name in declared}
        return {"dask_resources": honoured} if honoured else {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._lost is not None:
            raise self._lost  # the client would go on waiting for a scheduler that does not come back
        resources: Mapping[str, int] | None = kwargs.pop("dask_resources", None)
        call = functools.partial(fn, *args, **kwargs)
        ours: Future[object] = Future()
        theirs = self.client.submit(
            call,
            key=f"superluigi-{os.getpid()}-{next(_numbers)}-{os.urandom(4).hex()}",
            pure=False,
            retries=0,
            resources=resources,
        )
        self._futures[ours] = theirs
        ours.set_running_or_notify_cancel()
        theirs.add_done_callback(functools.partial(self._arrived, ours))
        return ours

    def _arrived(self, ours: Future[object], theirs: Any) -> None:
        self._futures.pop(ours, None)
        with contextlib.suppress(InvalidStateError):  # given up meanwhile
            try:
                ours.set_result(theirs.result())
            except InvalidStateError:
                raise
            except BaseException as error:  # noqa: BLE001 - the future carries it
                ours.set_exception(self._named(error))

    def _named(self, error: BaseException) -> BaseException:
        if type(error).__name__ == "KilledWorker":
            return WorkerLostError(f"Every Dask worker that tried this task died: {error}")
        if isinstance(error, CancelledError) or type(error).__name__ in ("FutureCancelledError", "CommClosedError"):
            self._lost = ExecutorLostError(
                f"The connection to the Dask scheduler at {self._address} was lost ({error}). Finished tasks are "
                "safe; start the scheduler and its workers and run again: only what is missing runs."
            )
            return self._lost
        return error

    def cancel_running(self, future: Future[Any], reason: BaseException) -> bool:
        """Give up a call: Dask is told, and the future raises `reason` at once."""
        theirs = self._futures.pop(future, None)
        if theirs is None:
            return False
        with contextlib.suppress(Exception):  # the scheduler may be gone; we give up anyway
            theirs.cancel(force=True)
        if not future.done():
            future.set_exception(reason)
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future in list(self._futures):
                self.cancel_running(future, ExecutionError("The run was interrupted."))
        if self._closes:
            with contextlib.suppress(Exception):  # the scheduler may be gone already
                self.client.close(timeout=5)
            for thing in self._closes:
                with contextlib.suppress(Exception):
                    thing.close()
