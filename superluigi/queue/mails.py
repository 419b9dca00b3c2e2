"""Mails about attempts that failed, as Luigi's worker and scheduler send them: by its `[email]` and `[batch_email]`.

Each failed attempt is a mail, unless `[worker] send_failure_email` is off; with `[scheduler] batch_emails` they are
gathered as well, and sent when the process that runs the attempts ends, or after the interval of `[batch_email]`.
"""

from __future__ import annotations

import functools
import logging
import socket
import subprocess
import sys
from typing import Any

from superluigi.luigi_compat import configuration

logger = logging.getLogger("superluigi.queue")


def failed(task: Any, words: str) -> None:
    """Mail that an attempt at `task` failed. A mail that cannot be sent is a warning: the task is no better for it."""
    # Late: most attempts succeed, and these modules know how to send mail in four ways.
    from luigi import notifications, worker

    try:
        if worker.worker().send_failure_email:
            headline = "A task failed when running. Most likely run() raised an exception."
            message = notifications.format_task_error(headline, task, subprocess.list2cmdline(sys.argv), words)
            subject = f"Luigi: {task} FAILED. Host: {socket.gethostname()}"
            notifications.send_error_email(subject, message, task.owner_email)
        batch = _batch()
        if batch is not None:
            params = task.to_str_params(only_public=True)
            unbatched = {name: text for name, text in params.items() if name not in task.batch_param_names()}
            batch.add_failure(str(task), task.task_family, unbatched, words, _owners(task))
            batch.update()
    except Exception as error:  # noqa: BLE001 whatever a mail server, or its library, comes up with
        logger.warning("the mail about %s could not be sent: %s", task, error)


def send_batch() -> None:
    """Send what has been gathered: this process ends."""
    if _batch.cache_info().currsize and (batch := _batch()) is not None:
        try:
            batch.send_email()
        except Exception as error:  # noqa: BLE001 as above
            logger.warning("the mail about failed tasks could not be sent: %s", error)


@functools.lru_cache(maxsize=1)
def _batch() -> Any:
    if not configuration.value("scheduler", "batch_emails", False, "boolean"):
        return None
    from luigi.batch_notifier import BatchNotifier

    return BatchNotifier()


def _owners(task: Any) -> list[str]:
    owner = task.owner_email
    return [] if not owner else [owner] if isinstance(owner, str) else list(owner)
