"""The policies of docs/how-to/s3.md are enough, on a server that checks them, and no right in them is for nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from superluigi.errors import StorageAccessError
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.testing.s3_server import ENDPOINT_VARIABLE

pytestmark = pytest.mark.skipif(ENDPOINT_VARIABLE in os.environ, reason="makes users of its own")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "s3.md"
BUCKET = "my-bucket"


def policy(action: str) -> dict[str, Any]:
    """The one of the page that names `action`, or does not with `-action`."""
    found = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    (wanted,) = [one for one in found if ("s3:PutObject" in json.dumps(one)) is (action == "write")]
    return dict(wanted)


class Checking:
    """A server that lets users do what their policies allow."""

    def __init__(self, url: str) -> None:
        self.url, self.made = url, 0
        self.root = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
        self.iam = boto3.client("iam", endpoint_url=url, **self.root)

    def _check_after(self, requests: int) -> None:
        body = str(requests).encode()
        headers = {"Content-Type": "application/octet-stream"}
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset-auth", body, headers)).close()

    def user(self, rights: dict[str, Any]) -> dict[str, str]:
        """Client options of a new user with these rights, and no others."""
        self.made += 1
        name = f"user{self.made}"
        self._check_after(3)
        self.iam.create_user(UserName=name)
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        self.iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(rights))
        signing = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        return {"endpoint_url": self.url, "region_name": "us-east-1", **signing}


@pytest.fixture(scope="module")
def checking() -> Iterator[Checking]:
    command = [sys.executable, "-m", "superluigi.testing.s3_server", "--bucket", BUCKET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Checking(process.stdout.readline().strip())
        process.terminate()


def write(options: dict[str, str], key: str) -> None:
    """Everything that writing may need: new, replaced, fewer files, large, removed."""
    thing, folder = S3ObjectTarget(BUCKET, f"{key}/o", **options), S3PrefixTarget(BUCKET, f"{key}/p", **options)
    for round in range(2):
        for target in (thing, folder):
            with target.stage() as staged:
                if not target.is_folder:
                    staged.path.write_bytes(b"1" * (10 if round else 17 << 20))
                for number in range(3 - round) if target.is_folder else ():
                    (staged.path / f"{number}").write_text(f"{round}")
                staged.commit({"run": {"id": f"{round}"}})
    assert (folder.read_metadata() or {})["run"] == {"id": "1"}
    thing.remove()
    assert not thing.exists()


def read(options: dict[str, str], key: str) -> None:
    folder = S3PrefixTarget(BUCKET, f"{key}/p", **options)
    folder.location.cache.clear()
    assert folder.exists() and sorted(file.name for file in folder.download().iterdir()) == ["0", "1"]
    assert folder.read_metadata() is not None
    assert not S3ObjectTarget(BUCKET, f"{key}/missing", **options).exists()


def test_the_smallest_policies_are_enough(checking: Checking) -> None:
    write(checking.user(policy("write")), "reports/2013")
    read(checking.user(policy("read")), "reports/2013")


def test_without_one_of_the_rights_the_error_names_it(checking: Checking) -> None:
    writer = checking.user(policy("write"))
    write(writer, "reports/whole")
    for kind in ("read", "write"):
        rights = policy(kind)
        named = {right for one in rights["Statement"] for right in one["Action"]}
        for right in sorted(named - {"s3:AbortMultipartUpload"}):  # which only tidies up
            less = [
                {**one, "Action": [other for other in one["Action"] if other != right]} for one in rights["Statement"]
            ]
            options = checking.user({**rights, "Statement": [one for one in less if one["Action"]]})
            with pytest.raises(StorageAccessError, match=right):
                (write if kind == "write" else read)(
                    options, "reports/whole" if kind == "read" else f"reports/{right[3:]}"
                )
