"""A record that has another shape than ours describes nothing: no command and no run ends with an error of Python."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from superluigi import lineage
from superluigi.errors import SuperLuigiError
from superluigi.storage.objects.prefix import prefix_recovery
from superluigi.targets import LocalFileTarget, LocalFolderTarget, S3ObjectTarget, S3PrefixTarget
from superluigi.testing.s3_server import S3Server

DEEP = "[" * 100_000 + "]" * 100_000
ODD: tuple[Any, ...] = (None, True, -1, 0.5, "x", [], [3], [None], [{"path": 3, "key": 3, "digest": 3}], {}, {"id": []})
TEXTS = ("", "[]", "3", "null", "{", DEEP, f'{{"output": {DEEP}}}', f'{{\n"output": {DEEP}\n}}\n')


def _file(folder: Path, _server: S3Server) -> Any:
    return LocalFileTarget(folder / "out.txt")


def _folder(folder: Path, _server: S3Server) -> Any:
    return LocalFolderTarget(folder / "out")


def _object(_: Path, server: S3Server) -> Any:
    return S3ObjectTarget(server.create_bucket(), "out.txt", **server.client_options)


def _prefix(_: Path, server: S3Server) -> Any:
    return S3PrefixTarget(server.create_bucket(), "out", **server.client_options)


def _is_advice(look: Callable[[], object]) -> bool:
    """Whether a look at an output ends well, or with an error of ours."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            look()
    except SuperLuigiError:
        return True
    except Exception:  # noqa: BLE001 - any other is what is looked for
        return False
    return True


@pytest.mark.parametrize("make", [_file, _folder, pytest.param(_object, marks=pytest.mark.long), _prefix])
def test_whatever_stands_in_a_record_an_output_can_be_looked_at(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, S3Server], Any]
) -> None:
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "false")
    target = make(tmp_path, s3_server)
    with target.tmp_write_path() as path:
        (path / "a" if path.is_dir() else path).write_text("1")
    target.write_metadata({"task_id": "T", "task_hash": "0", "run": {"id": "1"}, "params": {}, "code": {}, "input": []})
    record, client = str(target.metadata_path), s3_server.client()
    bucket, _, key = record.removeprefix("s3://").partition("/")
    remote = record.startswith("s3://")
    stored = client.get_object(Bucket=bucket, Key=key)["Body"].read() if remote else Path(record).read_bytes()
    good = json.loads(stored)
    texts = [json.dumps({**good, "output": {**good["output"], name: odd}}) for name in good["output"] for odd in ODD]
    names = (*good, "superluigi_pending", "superluigi_absent")
    texts += [json.dumps({**good, name: odd}) for name in names for odd in ODD]
    looks: tuple[Callable[[], object], ...] = (
        target.exists,
        target.read_metadata,
        target.location.run_id_of_data,
        lambda: lineage.trace(target),
        lambda: lineage.verify(target),
        lambda: lineage.to_openlineage(target),
    )
    failed = []
    for text in (*TEXTS, *texts[:: 10 if remote else 3]):
        for number, look in enumerate(looks):
            if not remote:
                Path(record).write_text(text)
            elif number in (0, 3):  # a look may mend what it finds
                client.put_object(Bucket=bucket, Key=key, Body=text.encode())
            if not _is_advice(look):
                failed.append((number, text[-300:]))
    assert not failed


SOUND = {
    "contents": [{"key": "out/a", "size": 1}], "copies": ["out/a"], "gone": ["other"], "limit": 10, "copy_options": {},
    "record": {"output": {"type": "S3PrefixTarget", "path": "s3://b/out", "commit": "x"}},
}  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        {"plan": 3}, {"plan": {}}, {"plan": {**SOUND, "contents": [{"key": "out/a", "size": "x"}]}},
        {"plan": {**SOUND, "copy_options": {"Bucket": "elsewhere"}}}, {"holder": 3}, {"commit": None},
    ],
)  # fmt: skip
def test_a_claim_on_a_prefix_that_has_another_shape_is_nobodys_commit(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]
) -> None:
    bucket = s3_server.create_bucket()
    target = S3PrefixTarget(bucket, "out", **s3_server.client_options)
    with target.tmp_write_path() as path:
        (path / "a").write_text("1")
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="other", Body=b"precious")
    claim = {"commit": "x", "holder": "y", "state": "switching", "plan": SOUND, **said}
    client.put_object(Bucket=bucket, Key="out.metadata.json.pending", Body=json.dumps(claim).encode())
    assert target.exists()
    monkeypatch.setattr(prefix_recovery, "LEASE", timedelta(seconds=-5))
    with target.tmp_write_path() as path:
        (path / "a").write_text("2")
    with target.tmp_read_path() as path:
        assert (path / "a").read_text() == "2"
    assert client.get_object(Bucket=bucket, Key="other")["Body"].read() == b"precious"
