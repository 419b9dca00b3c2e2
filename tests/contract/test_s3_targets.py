"""The promises of a commit, on S3: the embedded server, or the one that SUPERLUIGI_TEST_S3_ENDPOINT names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from superluigi.targets.base import AtomicTarget
from superluigi.testing.s3_server import S3Server, s3_server
from superluigi.testing.target_suite import S3ObjectRig, S3PrefixRig, TargetRig, TargetSuite, publish


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
    with s3_server(old=True) as server:
        yield server


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
class TestLongS3ObjectTargetOnAServerWithoutConditionalWrites(TargetSuite):
    rig = TestS3ObjectTargetOnAServerWithoutConditionalWrites.rig


@pytest.mark.long
class TestLongS3PrefixTargetOnAServerWithoutConditionalWrites(TargetSuite):
    rig = TestS3PrefixTargetOnAServerWithoutConditionalWrites.rig


@pytest.mark.long
class TestLongS3PrefixTargetWithItsRecordInside(TargetSuite):
    rig = TestS3PrefixTargetWithItsRecordInside.rig
