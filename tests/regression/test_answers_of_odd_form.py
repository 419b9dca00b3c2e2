"""Servers, and proxies before them, whose answers have another form than those of S3: the same output, or our error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler

import pytest
from target_support import read, write

from superluigi.errors import TransferError
from superluigi.storage.base import Lease
from superluigi.storage.objects.s3 import transfer
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.s3_dialects import Dialect
from superluigi.testing.s3_server import S3Server, s3_server

KINDS = {"object": S3ObjectTarget, "prefix": S3PrefixTarget}
Change = Callable[[str], str]


@dataclass(frozen=True)
class Odd(Dialect):
    """Answers whose headers, and elements of listings, of these names have another text (an element of none goes)."""

    changes: dict[str, Change] = field(default_factory=dict)

    def headers(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(name, self.changes.get(name.lower(), str)(text)) for name, text in super().headers(headers)]

    def listed(self, query: str, result: Iterable[bytes]) -> Iterable[bytes]:
        found = b"".join(result)
        for name, change in self.changes.items():

            def other(element: re.Match[bytes], name: str = name, change: Change = change) -> bytes:
                text = change(element[1].decode())
                return (f"<{name}>{text}</{name}>" if text else "").encode().ljust(len(element[0]))

            found = re.sub(rb"<%s>([^<]*)</%s>" % (name.encode(), name.encode()), other, found)
        return [found]


Servers = dict[str, tuple[S3Server, dict[str, Change]]]


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    dialects = Odd(), Odd(server="Packing/1")
    with s3_server(dialect=dialects[0]) as known, s3_server(dialect=dialects[1]) as tried_out:
        yield {"known": (known, dialects[0].changes), "tried out": (tried_out, dialects[1].changes)}


@pytest.fixture
def servers(running: Servers) -> Iterator[Servers]:
    """One that is known and one that is tried out, with what changes their answers: nothing yet."""
    yield running
    for _, changes in running.values():
        changes.clear()


#: Strange, but it says all that is needed.
UNDERSTOOD: dict[str, tuple[str, Change]] = {
    "a weak ETag": ("etag", lambda etag: f"W/{etag}"),
    "a bare ETag": ("etag", lambda etag: etag.strip('"')),
    "a time without zone": ("last-modified", lambda time: time.removesuffix(" GMT")),
    "the server's time without zone": ("date", lambda time: time.removesuffix(" GMT")),
    "the server's time in an unknown zone": ("date", lambda time: time.replace("GMT", "-0000")),
    "no time of the server": ("date", lambda _: "today"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("server", ["known", "tried out"])
@pytest.mark.parametrize("odd", UNDERSTOOD)
def test_an_answer_of_another_form_is_understood(
    kind: str, server: str, odd: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SINGLE_LIMIT", 1 << 10)
    there, changes = servers[server]
    name, change = UNDERSTOOD[odd]
    changes[name] = change
    if name == "date":  # the server adds it later
        said = lambda *_: change(formatdate(usegmt=True))  # noqa: E731
        monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", said)
    target = KINDS[kind](there.create_bucket(), "thing", **there.client_options)
    for text in ("small", "x" * 3000, "other"):
        write(target, text)
        target.write_metadata({"length": len(text)})
        assert read(target) == text
        assert (target.read_metadata() or {})["length"] == len(text)
    lease = target.location.lease()
    assert isinstance(lease, Lease)
    assert target.location.holder() is not None
    lease.release()
    target.remove()
    assert not target.exists()


#: It says nothing that could be believed: which kind of output asks for it.
NOT_UNDERSTOOD: dict[tuple[str, str], tuple[str, Change]] = {
    ("no size", "prefix"): ("Size", lambda _: "?"),
    ("no ETag", "prefix"): ("ETag", lambda _: ""),
    ("no time", "prefix"): ("LastModified", lambda _: "now"),
    ("no length", "object"): ("content-length", lambda _: "many"),
    ("no time of it", "object"): ("last-modified", lambda _: "yesterday"),
    ("no time of its record", "prefix"): ("last-modified", lambda _: "yesterday"),
}


@pytest.mark.parametrize(("odd", "kind"), NOT_UNDERSTOOD)
def test_an_answer_that_says_nothing_is_an_error_of_ours(
    odd: str, kind: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    server, changes = servers["known"]
    target = KINDS[kind](server.create_bucket(), "thing", **server.client_options)
    uses: list[Callable[[], object]] = [
        target.exists, target.read_metadata, lambda: read(target), lambda: write(target, "new"), target.remove,
    ]  # fmt: skip
    write(target, "old")
    refused = 0
    for use in uses:
        changes.update([NOT_UNDERSTOOD[odd, kind]])
        try:
            use()
        except TransferError as error:
            refused += 1
            assert "is no S3" in str(error)
        changes.clear()
        if target.exists():
            assert read(target) in ("old", "new")
        else:
            write(target, "old")
    assert refused


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_an_error_of_the_users_own_is_not_said_of_the_server(kind: str, size: int, servers: Servers) -> None:
    there, _ = servers["known"]
    bucket = there.create_bucket()
    write(KINDS[kind](bucket, "thing", **there.client_options), "x" * size)

    def progress(done: int) -> None:
        raise ValueError(f"after {done}")

    with pytest.raises(ValueError, match=r"^after \d+$"):
        read(KINDS[kind](bucket, "thing", progress=progress, **there.client_options))
