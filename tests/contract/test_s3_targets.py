"""The promises of a commit, on S3: the embedded server, or the one that SUPERLUIGI_TEST_S3_ENDPOINT names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from superluigi.targets import S3ObjectTarget
from superluigi.targets.base import AtomicTarget
from superluigi.testing import crash
from superluigi.testing.s3_dialects import CEPH_16, UNCONDITIONAL
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
        crash.stopped_in_child(n, "death", publish, rig, "new")
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


def tried_out(rig: TargetRig) -> TargetRig:
    """Let the server be tried out before steps are counted."""
    publish(rig, "one")
    rig.target().remove()
    return rig


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
