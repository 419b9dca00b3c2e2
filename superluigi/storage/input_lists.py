"""References of a task with many inputs: in a file of their own, which the record names with its digest.

Above `LIMIT` references, what a record says of its inputs is `{"count", "digest", "file"}`. The list is in
`<record>.inputs/<file>`: written before the record that names it and removed after that has gone, under a name that no
other commit gives, so that a record which is there has its list. Pure but for what is handed in.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from superluigi.errors import RecordError
from superluigi.storage import owner_token
from superluigi.storage.base import SURROGATES, Record, encoded, parsed

#: So many references stand in the record itself.
LIMIT = 1000
#: Follows the name of a record whose lists are below it.
SUFFIX = ".inputs"
#: Which parts of a record may be lists of their own; their names end those of the files.
KEYS = ("input", "dynamic_input")
_TRIES = 20
_AT_ONCE = 256  # lines that are parsed together


@dataclass(frozen=True)
class Home:
    """Where the lists of one record are."""

    address: str
    #: The bytes of a file there; None if it is gone.
    read: Callable[[str], bytes | None]
    #: The record as it is there now: a list that is gone went with the record that named it.
    record: Callable[[], Record | None]


class InputList(dict[str, Any]):
    """`count`, `digest` and `file` as the record has them; the references themselves are read when they are asked for.

    Pickles and JSON hold what the record does.
    """

    def __init__(self, named: Mapping[str, object], key: str, home: Home) -> None:
        super().__init__(named)
        self.key, self.home = key, home

    def structure(self) -> object:
        """All references, in the shape of the requirements.

        Raises:
            RecordError: the list is gone, or not the one that the record names.
        """
        found = self._found()
        return self._parsed(found) if isinstance(found, bytes) else found

    def parts(self) -> Iterator[object]:
        """The same in parts, each a piece of the whole of the same kind.

        Raises:
            RecordError: as above.
        """
        found = self._found()
        if not isinstance(found, bytes):
            yield found
            return
        lines = io.BytesIO(found)
        opening, closing = (b"{", b"}") if next(lines, b"").strip() == b"{" else (b"[", b"]")
        while some := list(itertools.islice(lines, _AT_ONCE)):
            if some[-1].strip() == closing:
                some.pop()
            yield self._parsed(opening + b"".join(some).rstrip(b",\n") + closing)

    def _found(self) -> object:
        """The bytes of the list; or what the record that has replaced ours since says itself."""
        named: Mapping[str, Any] = self
        for _ in range(_TRIES):
            if (content := self.home.read(named["file"])) is not None:
                if hashlib.sha256(content).hexdigest() != named["digest"].get("sha256"):
                    break
                return content
            now = (self.home.record() or {}).get(self.key)
            if now is None or (is_list(now) and now["file"] == named["file"]):
                break
            if not is_list(now):
                return now
            named = now
        raise self._lost()

    def _parsed(self, text: bytes) -> object:
        try:
            return parsed(text)
        except ValueError as error:
            raise self._lost() from error

    def _lost(self) -> RecordError:
        return RecordError(
            f"The list of inputs {self.home.address}/{self['file']} is gone, or not the one that its record names. "
            "Copy it along with the record, or make the output again."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (dict(self),)


def is_list(value: object) -> bool:
    """Whether a part of a record names a list."""
    return (
        isinstance(value, dict)
        and type(value.get("count")) is int
        and isinstance(value.get("digest"), dict)
        and token_of(value.get("file")) is not None
    )


def token_of(file: object) -> str | None:
    """Who wrote a list, by the name of its file; None for what has another name than ours."""
    token, _, key = file.rpartition(".") if isinstance(file, str) else ("", "", "")
    return token if key in KEYS and owner_token.is_token(token) else None


def is_at(address: str) -> bool:
    """Whether what is at a path or key is a list of ours, by its name and that of the folder."""
    folder, _, file = address.rpartition("/")
    return folder.endswith(SUFFIX) and token_of(file) is not None


def named(record: object) -> set[str]:
    """The files that a record names."""
    parts = [record.get(key) for key in KEYS] if isinstance(record, Mapping) else []
    return {part["file"] for part in parts if isinstance(part, dict) and is_list(part)}


def named_in(text: bytes) -> set[str]:
    """The files that a record names, by its text; none where that is no record."""
    try:
        return named(parsed(text))
    except ValueError:
        return set()


def bound(record: Record, home: Callable[[], Home]) -> Record:
    """The same record, changed in place: what names a list can give it."""
    for key in KEYS:
        value = record.get(key)
        if type(value) is dict and "file" in value and is_list(value):
            record[key] = InputList(value, key, home())
    return record


def split(record: Record, address: str, token: str) -> tuple[Record, dict[str, bytes]]:
    """The record as it is stored in the commit `token`, and the lists (file name -> bytes) to be written before it.

    `address` is that of its lists: one that is there already stays.
    """
    lists: dict[str, bytes] = {}
    for key in KEYS:
        value = record.get(key)
        if isinstance(value, InputList):
            if value.home.address == address:
                continue
            value = value.structure()  # of another place, from where it was copied
        if (many := count(value)) > LIMIT:
            content, file = _content(value), f"{token}.{key}"
            lists[file] = content
            digest = {"sha256": hashlib.sha256(content).hexdigest()}
            record = {**record, key: {"count": many, "digest": digest, "file": file}}
    return record, lists


def is_reference(value: object) -> bool:
    """Whether a part of a record's `input` describes one input, rather than a dict of inputs."""
    return isinstance(value, Mapping) and isinstance(value.get("path"), str) and isinstance(value.get("type"), str)


def count(structure: object) -> int:
    """How many references there are in a part of a record."""
    if isinstance(structure, InputList):
        return int(structure["count"])
    if is_reference(structure):
        return 1
    if isinstance(structure, Mapping):
        return sum(map(count, structure.values()))
    return sum(map(count, structure)) if isinstance(structure, (list, tuple)) else 0


def _content(structure: Any) -> bytes:
    """JSON with a line for each part at the top."""
    if isinstance(structure, Mapping):
        lines, around = [f"{encoded(key)}: {encoded(value)}" for key, value in structure.items()], "{}"
    else:
        lines, around = [encoded(value) for value in structure], "[]"
    return "\n".join((around[0], ",\n".join(lines), around[1], "")).encode("utf-8", SURROGATES)
