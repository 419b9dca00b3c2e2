"""What a commit could not take back from a server that went away is taken back by the next process that cleans."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from superluigi.errors import CommitError, StorageAccessError, TargetError
from superluigi.storage.objects.s3 import transfer
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.targets.base import AtomicTarget
from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_server import S3Server, open_uploads


@pytest.fixture
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("SUPERLUIGI_S3_ENGINE", "boto3")  # which asks once and no more
    monkeypatch.setattr(transfer, "SINGLE_LIMIT", 5 << 20)
    monkeypatch.setattr(transfer, "PART", 5 << 20)
    parts = urlsplit(s3_server.endpoint_url)
    with FaultProxy(parts.hostname or "", parts.port or 80) as running:
        yield running


def write(target: AtomicTarget, text: str) -> None:
    with target.tmp_write_path() as path:
        if not path.is_dir():
            path.write_text(text)
            return
        for name in ("a", "b", f"only {text}"):
            (path / name).write_text(text)


REFUSALS = {"refused": (403, "AccessDenied", StorageAccessError), "full": (507, "InsufficientStorage", CommitError)}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("names", [("a",), ("a", "more"), ("other",)], ids=["changed", "and new", "all new"])
def test_a_commit_whose_record_is_refused_takes_all_back_at_once(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, refusal: str, names: Sequence[str]
) -> None:
    target = S3PrefixTarget(s3_bucket, "thing", **{**s3_server.client_options, "endpoint_url": proxy.url})
    write(target, "old")
    client = s3_server.client()

    def there() -> dict[str, str]:
        return {item["Key"]: item["ETag"] for item in client.list_objects_v2(Bucket=s3_bucket)["Contents"]}

    before = there()
    status, code, error = REFUSALS[refusal]
    proxy.add(Fault.STATUS, method="PUT", path=r"/thing\.metadata\.json$", times=None, status=status, code=code)
    with pytest.raises(error, match=code), target.tmp_write_path() as path:
        for name in names:
            (path / name).write_text("new")
    assert there() == before
    assert not list(Path(target.location.local_root).glob(".superluigi/*/note.jsonl"))
    proxy.clear()
    write(target, "newer")
    assert target.read_metadata() is not None


def in_child(work: Callable[[], object]) -> None:
    """Do it in a process of its own, which ends with it, as a run of the user does."""
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            try:
                work()
            except TargetError:
                pass
            except BaseException as error:  # a child must not run the rest of the tests
                print(repr(error), file=sys.stderr)
                raise
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


WORKS: dict[str, tuple[type[S3ObjectTarget | S3PrefixTarget], bool, Callable[[AtomicTarget], object]]] = {
    "object": (S3ObjectTarget, False, lambda target: write(target, "new")),
    "parts": (S3ObjectTarget, False, lambda target: write(target, "n" * ((5 << 20) + 1))),
    "prefix": (S3PrefixTarget, False, lambda target: write(target, "new")),
    "prefix replaced": (S3PrefixTarget, True, lambda target: write(target, "new")),
    "prefix removed": (S3PrefixTarget, True, lambda target: target.remove()),
}


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.REFUSE])
@pytest.mark.parametrize("skip", [1, 2, 4, 7, 10])
@pytest.mark.parametrize("work", WORKS)
def test_what_a_failed_commit_owes_is_paid_by_the_next_process(
    s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, work: str, skip: int, fault: Fault
) -> None:
    kind, there, does = WORKS[work]
    options = {**s3_server.client_options, "endpoint_url": proxy.url}
    target = kind(s3_bucket, "thing", **options)
    if there:
        write(target, "old")
    proxy.add(fault, skip=skip, times=None)
    in_child(lambda: does(target))
    proxy.clear()
    write(S3ObjectTarget(s3_bucket, "another", **options), "1")  # which cleans
    client = s3_server.client()
    keys = {item["Key"] for item in client.list_objects_v2(Bucket=s3_bucket).get("Contents", ())}
    assert not [key for key in keys if ".superluigi-" in key or key.endswith(".pending")], keys
    # An upload whose id never came back can be told by its age only.
    assert not open_uploads(client, s3_bucket) or (work, skip, fault) == ("parts", 1, Fault.LOST_REPLY)
    if target.exists():
        with target.tmp_read_path() as path:
            assert not path.is_dir() or len({file.read_text() for file in path.iterdir()}) == 1
    else:
        target.remove()  # of an output that was being removed, raw keys may be left: to be removed again
        keys = {item["Key"] for item in client.list_objects_v2(Bucket=s3_bucket)["Contents"]}
        assert keys == {"another"}
    root = Path(target.location.local_root)
    assert not list(root.glob(".superluigi/*/note.jsonl"))
