"""One thread per process that looks after attempts which take a while: logs appear, cancellations are seen."""

from __future__ import annotations

import contextlib
import os
import threading
import time

from superluigi.tasks.life import cancel, logs, pruning

_EVERY_SECONDS = 0.3
_guard = threading.Lock()
_pid = 0


def ensure() -> None:
    """Start the thread, unless this process has it; threads do not survive a fork."""
    global _pid
    if _pid == os.getpid():
        return
    with _guard:
        if _pid == os.getpid():
            return
        _pid = os.getpid()
        threading.Thread(target=_watch, name="superluigi-warden", daemon=True).start()


def _watch() -> None:
    pruned = False
    while True:
        time.sleep(_EVERY_SECONDS)
        now = time.time()
        old = [scope for scope in cancel.running() if now - scope.started > _EVERY_SECONDS]
        for scope in old:
            if scope.own_process:
                logs.flush()
            cancel.look(scope)
        if old and not pruned:
            pruned = True
            with contextlib.suppress(OSError):
                pruning.prune_now_and_then()
