"""The promises of a commit, on S3: the embedded server, or the one that SUPERLUIGI_TEST_S3_ENDPOINT names."""

from __future__ import annotations

from typing import Any

import pytest

from superluigi.targets.base import AtomicTarget
from superluigi.testing.s3_server import S3Server
from superluigi.testing.target_suite import S3ObjectRig, S3PrefixRig, TargetRig, TargetSuite


class TestS3ObjectTarget(TargetSuite):
    @pytest.fixture
    def rig(self, s3_server: S3Server, s3_bucket: str) -> TargetRig:
        return S3ObjectRig(s3_bucket, s3_server.client_options)


class TestS3PrefixTarget(TargetSuite):
    @pytest.fixture
    def rig(self, s3_server: S3Server, s3_bucket: str) -> TargetRig:
        return S3PrefixRig(s3_bucket, s3_server.client_options)


class InsideRig(S3PrefixRig):
    def target(self, name: str = "output", **options: Any) -> AtomicTarget:
        return super().target(name, metadata_inside_prefix=True, **options)


class TestS3PrefixTargetWithItsRecordInside(TargetSuite):
    @pytest.fixture
    def rig(self, s3_server: S3Server, s3_bucket: str) -> TargetRig:
        return InsideRig(s3_bucket, s3_server.client_options)
