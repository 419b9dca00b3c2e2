"""Notes of what a commit may leave on the server if its process dies, and the cleaning that follows them.

The note is in the commit's local staging folder, `<local root>/.superluigi/<token>/note.jsonl`, and a line is
written before the thing it names can exist. The next commit on this host finds the notes of dead processes
there, without a single request to the server when there are none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from superluigi.storage import owner_token, small_files
from superluigi.storage.base import parsed
from superluigi.storage.local import atomic, copy
from superluigi.storage.local.stages import staging
from superluigi.storage.objects.store import ObjectStore

_log = logging.getLogger(__name__)

NOTE = staging.NOTE
#: A part of the names of keys that are on the server only while a commit is under way.
MARK = ".superluigi-"
_HANDLERS = {
    "abort": "superluigi.storage.objects.intent_log:abort",
    "delete": "superluigi.storage.objects.intent_log:delete",
    "withdraw": "superluigi.storage.objects.object:withdraw_dead",
    "lists": "superluigi.storage.objects.record:drop_unnamed",
    "prefix": "superluigi.storage.objects.prefix.prefix_recovery:recover_noted",
}


#: Commits of this process that are under way; another token of its own is over.
active: set[str] = set()


def is_over(token: str) -> bool:
    """Whether the work of `token` surely has an end: its process is gone, or is this one and no longer at it."""
    return owner_token.owner_is_gone(token) or (owner_token.is_own(token) and token not in active)


class IntentLog:
    """The note of one commit."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self.file, self.namespace = folder / NOTE, namespace

    def add(self, action: str, **what: object) -> None:
        """Write down what is about to be left on the server, and which handler removes it."""
        line = json.dumps({"endpoint": self.namespace, "action": action, **what})
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def drop(folder: Path, owes: bool) -> None:
    """Remove the folder of a commit that has ended; with `owes`, all of it but the note.

    What could not be undone on the server is then for the next process that cleans, once this one is gone.
    """
    with atomic.mended_later(f"The temporary files in {folder} could not be removed"):
        if not owes:
            staging.drop_staging(folder)
            return
        for name in os.listdir(folder):
            if name != NOTE:
                copy.remove_tree(folder / name)


def clean(store: ObjectStore, root: Path) -> None:
    """Follow the notes of dead processes of this host that used the same server; drop their folders."""
    for folder in dead(store, root):
        replay(store, folder, root)


def dead(store: ObjectStore, root: Path) -> list[Path]:
    """Staging folders of dead processes of this host; those of another server wait for a process that talks to it."""
    return [
        folder
        for folder in staging.dead_staging(root)
        if all(line.get("endpoint") == store.namespace for line in _lines(folder / NOTE))
    ]


def replay(store: ObjectStore, folder: Path, root: Path) -> None:
    """Do what the note in a dead process's staging folder says, and drop the folder; if that fails, it stays."""
    try:
        for line in _lines(folder / NOTE):
            if _is_own(line, folder.name):
                _follow(store, line, root)
    except Exception as error:  # noqa: BLE001  # of a bucket that is gone or refuses: the next one tries again
        _log.info("What %s says could not be done: %s", folder / NOTE, error)
        return
    staging.drop_staging(folder)
    store.seen.clear()  # what was seen before may be gone now


def _is_own(line: Mapping[str, object], token: str) -> bool:
    """Whether what a line names carries the token of the commit that wrote the note: a note does not command."""
    if line.get("action") == "delete":
        return token_in(str(line.get("key"))) == token
    return line.get("action") == "abort" or line.get("commit") == token


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        text = small_files.read(file).decode()
    except (FileNotFoundError, ValueError):  # no note, or nothing that we wrote
        return []
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):  # torn at the end: what it names was not begun
            lines.append(parsed(line.encode()))
    return lines


def _follow(store: ObjectStore, line: dict[str, Any], root: Path) -> None:
    module, _, name = _HANDLERS[line["action"]].partition(":")
    handler: Callable[[ObjectStore, Mapping[str, Any], Path], None] = getattr(import_module(module), name)
    handler(store, line, root)


def delete(store: ObjectStore, line: Mapping[str, Any], _root: Path) -> None:
    """Remove a key that was only there to try something out, with its versions and uploads where there are any."""
    store.delete_versions(line["bucket"], line["key"])
    with contextlib.suppress(OSError):  # to list uploads is a right of its own
        for upload in store.uploads(line["bucket"], line["key"]):
            if upload.key == line["key"]:
                store.abort_upload(line["bucket"], upload.key, upload.upload_id)


def abort(store: ObjectStore, line: Mapping[str, Any], _root: Path) -> None:
    """Drop the parts of a multipart upload; nothing happens if it is finished or gone."""
    store.abort_upload(line["bucket"], line["key"], line["upload_id"])


def uploads_of_the_living(root: Path) -> set[str]:
    """Ids of the multipart uploads that living processes noted down here, however old a server says they are."""
    notes = (line for folder in staging.living_staging(root) for line in _lines(folder / NOTE))
    return {line["upload_id"] for line in notes if line.get("action") == "abort"}


def token_in(key: str) -> str | None:
    """The token of the commit that a temporary key belongs to, or None for other keys."""
    for part in key.split("/"):
        _, mark, rest = part.rpartition(MARK)
        if mark and owner_token.is_token(rest):
            return rest
    return None


#: On temporary keys of a prefix whose record is elsewhere: where, so that the claim is found from them.
_RECORD_LABEL = "superluigi-record"
_LABEL_LIMIT = 1000  # bytes; S3 takes 2 kB of user metadata


def record_label(bucket: str, key: str) -> dict[str, str]:
    """User metadata that says where the record is."""
    text = quote(f"{bucket}/{key}")
    return {_RECORD_LABEL: text} if len(text) <= _LABEL_LIMIT else {}


def said_record(labels: Mapping[str, str]) -> tuple[str, str] | None:
    """Bucket and key that `record_label` put there."""
    bucket, _, key = unquote(labels.get(_RECORD_LABEL, "")).partition("/")
    return (bucket, key) if key else None
