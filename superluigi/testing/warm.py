"""Imported once by the server that forks the children of `fault_injection`: what each of them needs, ready before.

A child would spend most of its time on imports and on botocore's description of S3.
"""

from __future__ import annotations

import contextlib

import superluigi.targets.local
import superluigi.targets.s3
import superluigi.testing.fault_injection
from superluigi.storage.objects.s3.client import client
from superluigi.storage.objects.s3.options import S3Options

with contextlib.suppress(ImportError):
    import superluigi.testing.target_suite  # noqa: F401

with contextlib.suppress(ImportError):
    import obstore  # noqa: F401

nobody = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing", "region_name": "us-east-1"}
client(S3Options.of({**nobody, "endpoint_url": "http://127.0.0.1:9"}))
