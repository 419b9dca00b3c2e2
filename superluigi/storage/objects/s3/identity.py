"""Who signs the requests of a client, renewed once the server says that this one's time is over.

botocore renews by itself what says when it ends. Other sessions say nothing, or end before that: a file that a program
writes anew, a `credential_process` that names no end, a role that was revoked, a machine whose clock is behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from superluigi.storage.fork_lock import ForkLock
from superluigi.storage.objects.s3.options import S3Options
from superluigi.storage.objects.s3.s3_errors import access_error, has_ended

_lock = ForkLock()


class Identity:
    """What signs for one client. `find` gives what would sign for a new one; None where it would be another client."""

    def __init__(self, options: S3Options, find: Callable[[], Any]) -> None:
        self._options, self._find = options, find
        self._current: Callable[[], object] = lambda: None
        self._signed = threading.local()

    def attach(self, boto: Any) -> None:
        """Sign what `boto` asks."""
        credentials = boto._request_signer._credentials
        if credentials is None:
            return
        if "get_frozen_credentials" not in vars(credentials):
            self._current = credentials.get_frozen_credentials
            credentials.get_frozen_credentials = self._fetch
        boto.meta.events.register("needs-retry.s3", self._ask_again)

    def _fetch(self) -> object:
        """What signs now. Fetching or renewing it is late, and may raise anything."""
        try:
            self._signed.by = self._current()
        except Exception as error:
            raise access_error(error, f"No credentials can be had ({self._options})") from error
        return self._signed.by

    def _ask_again(self, response: Any, request_dict: Mapping[str, Any], **_: object) -> float | None:
        """Seconds until a refused request is asked again, if another identity signs it; it is asked once."""
        if response is None or not has_ended(response[1]) or request_dict["context"].get("superluigi_renewed"):
            return None
        request_dict["context"]["superluigi_renewed"] = True
        return 0.0 if self._renew(self._signed.by) else None

    def _renew(self, refused: object) -> bool:
        """Whether something else than `refused` signs from here on."""
        with _lock:  # many threads are refused at once
            if self._fetch() == refused:
                found = self._find()
                if found is None or found.get_frozen_credentials() == refused:
                    return False
                self._current = found.get_frozen_credentials
            return True
