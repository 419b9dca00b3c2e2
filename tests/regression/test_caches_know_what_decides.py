"""What a process remembers has all that decides the answer as its key."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from superluigi.storage.objects.s3 import capabilities
from superluigi.storage.objects.s3.capabilities import conditional_writes
from superluigi.storage.objects.s3.client import client
from superluigi.storage.objects.s3.options import S3Options
from superluigi.storage.objects.store import ConditionalWrites
from superluigi.tasks.runtime.environment import Environment
from superluigi.testing.s3_server import S3Server


def test_a_command_of_an_environment_is_asked_again_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment(command=". ./set.sh")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "set.sh").write_text(f"export WHERE={name}\n")
        monkeypatch.chdir(tmp_path / name)
        assert environment.variables(dict(os.environ))["WHERE"] == name


def test_what_a_server_honours_is_not_taken_from_another_server_or_user(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    s3 = client(S3Options.of(s3_server.client_options))
    s3.boto.head_bucket(Bucket=s3_bucket)
    true_name = s3.server

    def asked(server: str) -> ConditionalWrites:
        s3.server = server  # what it answers says so again
        return conditional_writes(s3, s3_bucket, "k", tmp_path)

    try:
        assert asked("Unheard-of/1").create
        (file,) = tmp_path.rglob("servers/*.json")
        nothing = {"create": False, "match": False, "complete": False}
        file.write_text(json.dumps({**json.loads(file.read_text()), **nothing}))
        capabilities._known.clear()
        assert asked("Unheard-of/1") == ConditionalWrites(**nothing)
        assert asked("Unheard-of/2").create  # another one at the same address
        file.write_text(json.dumps({**json.loads(file.read_text()), "until": 9_999_999_999.0}))
        capabilities._known.clear()
        assert asked("Unheard-of/1").create  # told by a clock that was ahead
        file.write_text(json.dumps({**json.loads(file.read_text()), **nothing}))
        if os.geteuid() == 0:
            os.chown(file, 4001, 4001)
            capabilities._known.clear()
            assert asked("Unheard-of/1").create
    finally:
        s3.server = true_name
