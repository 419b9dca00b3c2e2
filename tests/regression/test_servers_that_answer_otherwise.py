"""Servers that answer otherwise than S3 does, or not now: an error of ours that says what to do, and a sound output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from target_support import read, write

from superluigi.errors import CommitConflictError, CommitError, TargetError, TransferError
from superluigi.storage.objects.exists_many import exists_many
from superluigi.storage.objects.s3 import transfer
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.targets.base import AtomicTarget
from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_server import S3Server

KINDS = {"object": S3ObjectTarget, "prefix": S3PrefixTarget}
#: What pages to sign in, gateways and other services say: XML, and what is none; an error that is none by its status.
PAGES = {"xhtml": "<html><body>Sign in</body></html>", "html": "<html>Sign in<br></html>", "error": ""}


@pytest.fixture
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    parts = urlsplit(s3_server.endpoint_url)
    with FaultProxy(parts.hostname or "", parts.port or 80) as running:
        yield running


@pytest.fixture
def made(s3_server: S3Server, s3_bucket: str, proxy: FaultProxy) -> Callable[[str], AtomicTarget]:
    """A target behind the proxy."""
    options = {**s3_server.client_options, "endpoint_url": proxy.url}
    return lambda kind: KINDS[kind](s3_bucket, "thing", **options)


#: How an output is asked about and used.
USES: dict[str, Callable[[AtomicTarget], object]] = {
    "exists": lambda target: target.exists(),
    "many": lambda target: exists_many([target.location] * 9),
    "record": lambda target: target.read_metadata(),
    "read": read,
    "write": lambda target: write(target, "new"),
    "remove": lambda target: target.remove(),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_says_yes_to_everything_is_an_error_and_no_answer(
    made: Callable[[str], AtomicTarget], proxy: FaultProxy, kind: str, use: str, page: str
) -> None:
    target = made(kind)
    write(target, "old")
    proxy.add(Fault.STATUS, status=200, text=PAGES[page], times=None)
    with pytest.raises(TargetError) as raised:
        USES[use](target)
    assert page != "xhtml" or (isinstance(raised.value, TransferError) and "endpoint_url" in str(raised.value))
    proxy.clear()
    assert read(target) == "old"


@pytest.mark.parametrize("skip", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_takes_the_place_of_the_server_in_the_middle_of_a_commit_leaves_old_or_new(
    made: Callable[[str], AtomicTarget], proxy: FaultProxy, kind: str, skip: int
) -> None:
    target = made(kind)
    write(target, "old")
    proxy.add(Fault.STATUS, status=200, text=PAGES["xhtml"], skip=skip, times=None)
    seen = {"new"}
    try:
        write(target, "new")
    except TargetError:
        seen.add("old")
    proxy.clear()
    assert read(target) in seen
    write(target, "next")
    assert read(target) == "next"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_sends_elsewhere_is_asked_a_few_times_and_the_address_is_named(
    made: Callable[[str], AtomicTarget], proxy: FaultProxy, kind: str, use: str, status: int
) -> None:
    proxy.add(Fault.STATUS, status=status, code="PermanentRedirect", times=None)
    with pytest.raises(TargetError, match=r"endpoint_url.*http or https"):
        USES[use](made(kind))
    assert len(proxy.log) < 30


@pytest.mark.parametrize("code", ["409 ConditionalRequestConflict", "412 PreconditionFailed"])
@pytest.mark.parametrize("size", [1, 6 << 20], ids=["small", "parts"])
@pytest.mark.parametrize("there", [False, True], ids=["absent", "there"])
def test_a_condition_that_is_refused_while_nothing_has_changed_is_no_conflict(
    made: Callable[[str], AtomicTarget], proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch,
    there: bool, size: int, code: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(transfer, "SINGLE_LIMIT", 5 << 20)
    monkeypatch.setattr(transfer, "PART", 5 << 20)
    target = made("object")
    if there:
        write(target, "old")
    status, _, name = code.partition(" ")
    busy = proxy.add(Fault.STATUS, status=int(status), code=name, path="/thing$", times=3,
                     **({"method": "POST", "query": "uploadId"} if size > 1 else {"method": "PUT"}))  # fmt: skip
    write(target, "n" * size)
    assert read(target) == "n" * size and busy.hits == 3
    proxy.add(
        Fault.STATUS, status=int(status), code=name, path="/thing$", times=None, method=busy.method, query=busy.query
    )
    with pytest.raises(CommitConflictError, match="has not changed"):
        write(target, "m" * size)
    proxy.clear()
    assert read(target) == "n" * size


#: Of a prefix that is replaced, and what another request for the same key may be: its own record, say, read or listed.
CONDITIONAL = [
    ("PUT", r"/thing\.metadata\.json\.pending$"), ("PUT", r"/thing\.metadata\.json$"), ("PUT", "/thing/new$"),
    ("DELETE", "/thing/old$"), ("DELETE", r"/thing\.metadata\.json\.pending$"),
]  # fmt: skip


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_what_another_request_is_in_the_way_of_is_asked_again_and_leaves_nothing(
    made: Callable[[str], AtomicTarget], proxy: FaultProxy, s3_server: S3Server, s3_bucket: str, code: str
) -> None:
    target = made("prefix")
    for method, path in CONDITIONAL:
        for name in ("old", "new"):
            busy = proxy.add(Fault.STATUS, method=method, path=path, status=409, code=code) if name == "new" else None
            with target.tmp_write_path() as folder:
                (folder / "part").write_text(f"{name} {method}")
                (folder / name).write_text("x")
        assert busy is not None and busy.hits == 1
        found = s3_server.client().list_objects_v2(Bucket=s3_bucket)["Contents"]
        assert [item["Key"] for item in found] == ["thing.metadata.json", "thing/new", "thing/part"]
        assert target.read_metadata() is not None


def test_an_exchange_that_was_begun_says_that_it_will_be_ended_and_is(
    made: Callable[[str], AtomicTarget], proxy: FaultProxy, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    target = made("prefix")
    write(target, "old")
    proxy.add(Fault.STATUS, method="PUT", path="/thing/part$", times=None)
    with pytest.raises(CommitError, match="the next commit there finishes it") as raised:
        write(target, "new")
    assert "unchanged" not in str(raised.value)
    proxy.clear()
    assert read(target) == "new"


@pytest.mark.parametrize("letter", ["k", "é"])
def test_a_key_that_no_server_takes_is_refused_before_the_work(
    made: Callable[[str], AtomicTarget], s3_server: S3Server, s3_bucket: str, letter: str
) -> None:
    longest = letter * ((1024 - len(".metadata.json.pending")) // len(letter.encode()))
    for kind in KINDS.values():
        write(kind(s3_bucket, longest, **s3_server.client_options), "1")
        for key in (longest + 30 * letter, letter * 1025):
            with s3_server.counted() as seen, pytest.raises(CommitError, match="too long"):
                kind(s3_bucket, key, **s3_server.client_options).stage()
            assert not seen
    folder = S3PrefixTarget(s3_bucket, longest, **s3_server.client_options)
    with pytest.raises(CommitError, match="too long"), folder.tmp_write_path() as path:
        (path / "n" / ("n" * 100)).parent.mkdir()
        (path / "n" / ("n" * 100)).write_text("2")
    assert read(folder) == "1"


@pytest.mark.parametrize("status", [409, 412])
@pytest.mark.parametrize("size", [5, 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_without_a_condition_is_asked_about_again(
    kind: str, size: int, status: int, made: Callable[[str], AtomicTarget], proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(transfer, "SINGLE_LIMIT", 1000)
    target = made(kind)
    write(target, "old" * size)
    if kind == "prefix" or 3 * size > transfer.SINGLE_LIMIT:  # by the fast engine first
        skip = 1 if kind == "object" else 0
        proxy.add(Fault.STATUS, method="GET", path="/(thing|part)$", skip=skip, status=status, code="Aborted")
        assert read(target) == "old" * size
    if kind == "prefix" and 3 * size <= transfer.SINGLE_LIMIT:  # staged under a name of its own: no condition
        proxy.add(Fault.STATUS, method="PUT", path=r"superluigi-.*/.*part$", status=status, code="Aborted")
    write(target, "new" * size)
    assert read(target) == "new" * size
