"""The promises of a commit, on S3: the embedded server, or the one that SUPERLUIGI_TEST_S3_ENDPOINT names."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from superluigi.errors import CommitConflictError, TransferError
from superluigi.storage.objects.exists_many import exists_many
from superluigi.storage.objects.s3 import transfer
from superluigi.targets import S3ObjectTarget
from superluigi.targets.base import AtomicTarget
from superluigi.testing import fault_injection
from superluigi.testing.fault_proxy import Fault, FaultProxy
from superluigi.testing.s3_dialects import CEPH_16, OLD_MOTO, SEAWEED, UNCONDITIONAL, Dialect
from superluigi.testing.s3_server import S3Server, s3_server
from superluigi.testing.target_suite import S3ObjectRig, S3PrefixRig, TargetRig, TargetSuite, look, publish


class TestS3ObjectTarget(TargetSuite):
    @pytest.fixture
    def rig(self, s3_server: S3Server, s3_bucket: str) -> TargetRig:
        return S3ObjectRig(s3_bucket, s3_server.client_options)


class TestS3PrefixTarget(TargetSuite):
    @pytest.fixture
    def rig(self, s3_server: S3Server, s3_bucket: str) -> TargetRig:
        return S3PrefixRig(s3_bucket, s3_server.client_options)


class ShortSuite(TargetSuite):
    """For variants of a target: without the tests that take longest, which `make test-long` runs."""

    test_odd_names_are_names = None
    test_dying_at_every_step_leaves_old_or_new_and_the_next_commit_cleans_up = None


class TestS3ObjectTargetOnAServerWithoutConditionalWrites(ShortSuite):
    @pytest.fixture
    def rig(self, old_server: S3Server) -> TargetRig:
        return tried_out(S3ObjectRig(old_server.create_bucket(), old_server.client_options))


class TestS3PrefixTargetOnAServerWithoutConditionalWrites(ShortSuite):
    @pytest.fixture
    def rig(self, old_server: S3Server) -> TargetRig:
        return tried_out(S3PrefixRig(old_server.create_bucket(), old_server.client_options))


@pytest.fixture(scope="module")
def old_server() -> Iterator[S3Server]:
    with s3_server(dialect=UNCONDITIONAL) as server:
        yield server


class TestS3ObjectTargetOnCeph(ShortSuite):
    @pytest.fixture
    def rig(self, ceph: S3Server) -> TargetRig:
        return tried_out(S3ObjectRig(ceph.create_bucket(), ceph.client_options))


class TestS3PrefixTargetOnCephWithVersions(ShortSuite):
    @pytest.fixture
    def rig(self, ceph: S3Server) -> TargetRig:
        return tried_out(S3PrefixRig(ceph.create_bucket(versioned=True), ceph.client_options))


@pytest.fixture(scope="module")
def ceph() -> Iterator[S3Server]:
    with s3_server(dialect=CEPH_16) as server:
        yield server


def test_a_process_that_dies_while_it_tries_a_server_out_leaves_nothing_for_long(ceph: S3Server) -> None:
    rig = S3ObjectRig(ceph.create_bucket(versioned=True), ceph.client_options)
    for n in range(3, 10):
        fault_injection.stopped_in_child(n, "death", publish, rig, "new")
    publish(rig, "last")
    assert look(rig) == ("last", "last")
    versions = rig.client().list_object_versions(Bucket=rig.bucket)
    assert not [
        item for kind in ("Versions", "DeleteMarkers") for item in versions.get(kind, ()) if ".super" in item["Key"]
    ]
    assert rig.leftovers() == []


@pytest.mark.parametrize("size", [10, 17 << 20], ids=["whole", "in parts"])
@pytest.mark.parametrize("versioned", [False, True])
def test_an_object_on_ceph_is_replaced_with_its_record(ceph: S3Server, size: int, versioned: bool) -> None:
    target = S3ObjectTarget(ceph.create_bucket(versioned=versioned), "k", **ceph.client_options)
    for version in (b"1", b"2"):
        with target.stage() as staged:
            staged.path.write_bytes(version * size)
            record = staged.commit({"run": {"id": version.decode()}})
        assert record is not None and record["output"]["etag"] and target.read_metadata() == record
    with target.tmp_read_path() as path:
        assert path.read_bytes() == b"2" * size


@pytest.mark.parametrize("dialect", [OLD_MOTO, replace(OLD_MOTO, server="MinIO")], ids=["moto", "MinIO"])
def test_an_old_server_with_the_name_of_a_newer_one_is_not_believed(dialect: Dialect) -> None:
    with s3_server(dialect=dialect) as server:
        target = S3ObjectTarget(server.create_bucket(), "k", **server.client_options)
        won, together = list[str](), threading.Barrier(4)

        def commit(name: str) -> None:
            with target.stage() as staged:
                staged.path.write_text(name)
                together.wait()
                with contextlib.suppress(CommitConflictError):
                    staged.commit({"run": {"id": name}})
                    won.append(name)

        threads = [threading.Thread(target=commit, args=(f"{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [target.location.run_id_of_data(), target.download().read_text()] == won * 2


def test_bits_that_flip_in_a_part_are_noticed_where_the_server_minds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SINGLE_LIMIT", 1 << 20)
    with s3_server(dialect=OLD_MOTO) as server:
        parts = urlsplit(server.endpoint_url)
        with FaultProxy(parts.hostname or "", parts.port or 80) as proxy:
            options = {**server.client_options, "endpoint_url": proxy.url}
            target = S3ObjectTarget(server.create_bucket(), "k", **options)
            proxy.add(Fault.CORRUPT_REQUEST, method="PUT", query="partNumber=1", after=1000)
            with pytest.raises(TransferError, match="arrived changed"), target.tmp_write_path() as path:
                path.write_bytes(bytes(2 << 20))
            assert not target.exists()


def tried_out(rig: TargetRig) -> TargetRig:
    """Let the server be tried out before steps are counted."""
    publish(rig, "one")
    rig.target().remove()
    return rig


@pytest.mark.parametrize("changes", [{}, {"puts": False}], ids=["conditions", "none"])
def test_a_prefix_is_found_where_listings_are_in_the_order_of_a_tree(changes: dict[str, Any]) -> None:
    with s3_server(dialect=replace(SEAWEED, **changes)) as server:
        bucket = server.create_bucket()
        rig = S3PrefixRig(bucket, server.client_options)
        others = [S3ObjectTarget(bucket, key, **server.client_options) for key in ("place/output/x", "place/output-1")]
        for text in ("one", "two"):
            assert not others[0].exists()
            publish(rig, text)
            assert look(rig) == (text, text)
        rig.target().remove()
        assert look(rig) == (None, None)
        rig.client().put_object(Bucket=bucket, Key="place/output/strange", Body=b"1")
        external = rig.target()
        external.location.external = True
        assert not rig.target().exists() and external.exists()


def test_many_outputs_are_found_where_listings_are_in_the_order_of_a_tree() -> None:
    with s3_server(dialect=SEAWEED) as server:
        bucket, names = server.create_bucket(), [f"a/{letter}-{number}" for letter in "bx" for number in range(9)]
        for key in ("a/x/9", *names):
            server.client().put_object(Bucket=bucket, Key=key, Body=b"1")
        targets = [S3ObjectTarget(bucket, key, **server.client_options) for key in (*names, "a/x-9")]
        assert exists_many([target.location for target in targets]) == [True] * 18 + [False]


class InsideRig(S3PrefixRig):
    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        return super().target(name, metadata_inside_prefix=True, **options)


class TestS3PrefixTargetWithItsRecordInside(ShortSuite):
    @pytest.fixture
    def rig(self, s3_server: S3Server, s3_bucket: str) -> TargetRig:
        return InsideRig(s3_bucket, s3_server.client_options)


@pytest.mark.long
class TestLongS3ObjectTargetOnCephWithVersions(TargetSuite):
    @pytest.fixture
    def rig(self, ceph: S3Server) -> TargetRig:
        return tried_out(S3ObjectRig(ceph.create_bucket(versioned=True), ceph.client_options))


@pytest.mark.long
class TestLongS3PrefixTargetOnCeph(TargetSuite):
    @pytest.fixture
    def rig(self, ceph: S3Server) -> TargetRig:
        return tried_out(S3PrefixRig(ceph.create_bucket(), ceph.client_options))


@pytest.mark.long
class TestLongS3ObjectTargetOnAServerWithoutConditionalWrites(TargetSuite):
    rig = TestS3ObjectTargetOnAServerWithoutConditionalWrites.rig


@pytest.mark.long
class TestLongS3PrefixTargetOnAServerWithoutConditionalWrites(TargetSuite):
    rig = TestS3PrefixTargetOnAServerWithoutConditionalWrites.rig


@pytest.mark.long
class TestLongS3PrefixTargetWithItsRecordInside(TargetSuite):
    rig = TestS3PrefixTargetWithItsRecordInside.rig
