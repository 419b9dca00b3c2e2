"""An attempt that an executor of others has taken to one of its processes."""

from __future__ import annotations

import threading
from concurrent.futures import TimeoutError as FutureTimeout

from superluigi.errors import SuperLuigiError, TaskTimeoutError
from superluigi.execution import pickling, serialization
from superluigi.execution.attempt import AttemptResult
from superluigi.worker_process.pool import ProcessExecutor


def run_request_bounded(context: bytes, dumped: bytes, spool: str, timeout: float, alone: bool = False) -> bytes:
    """`run_request`, pickled, for executors that cannot end a call: a time limit is kept here.

    With a limit the attempt runs in a process of its own; so does one that must be `alone`, in a thread. The answer
    is pickled here because classes that came by value go back by value, which an executor's own pickle refuses.
    """
    if not timeout and not (alone and threading.current_thread() is not threading.main_thread()):
        return pickling.dumps(serialization.run_request(context, dumped, spool))
    with ProcessExecutor(1) as executor:
        executor.submit(serialization.load_context, context).result()  # start-up does not count
        future = executor.submit(serialization.run_request, context, dumped, spool)
        try:
            answer: AttemptResult | serialization.LoadFailure | SuperLuigiError = future.result(timeout or None)
        except FutureTimeout:
            answer = TaskTimeoutError(f"The task timed out after {timeout:g} seconds and was terminated.")
            executor.end(future, answer)
        except SuperLuigiError as error:
            answer = error
    return pickling.dumps(answer)
