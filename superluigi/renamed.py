"""Names of the first `super-luigi` package that are no more, with what to call instead.

What could stay has stayed (docs/how-to/from-super-luigi.md lists it); these answer with the new word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from superluigi.errors import RenamedError

_TARGETS = "superluigi.targets has the targets themselves: "

#: Module -> a name that was there -> what to write today.
MODULES: Mapping[str, Mapping[str, str]] = {
    "superluigi.task_runner": {
        "get_task_cls": "Import the class, or run `superluigi run MODULE TASK`.",
        "parse_task_path": "Run `superluigi run MODULE TASK`.",
        "parse_args": "Run `superluigi run MODULE TASK`.",
        "get_output_path": "run_task returns the outputs' paths; local_output=True downloads them.",
        "raise_exception_fn": "Call run_task(task, raise_exception=True).",
        "force_upstream_fn": "Call run_task(task, force_upstream=True).",
        "force_upstream_to_fn": "Call run_task(task, force_upstream_to_task=…) or force_upstream_to_task_cls=….",
    },
    "superluigi.targets.local": {
        "file_md5_hash": "Records hold SHA-256: target.read_metadata()['output']['digest'].",
    },
    "superluigi.targets.s3": {
        "get_creds": f"{_TARGETS}S3ObjectTarget(…, role_arn=…) assumes the role and renews it.",
        "get_s3_client": "Use boto3.client('s3'); targets share clients of their own.",
        "s3_object_exists": f"{_TARGETS}S3ObjectTarget(bucket, key).exists().",
        "s3_prefix_exists": f"{_TARGETS}S3PrefixTarget(bucket, prefix).exists().",
        "get_metadata_s3_object": f"{_TARGETS}S3ObjectTarget(bucket, key).read_metadata().",
        "put_metadata_s3_object": f"{_TARGETS}S3ObjectTarget(bucket, key).write_metadata(record).",
        "head_s3_object": "target.read_metadata()['output'] has size and etag.",
        "get_bucket_location": "Use boto3.client('s3').get_bucket_location(Bucket=…).",
    },
}

#: A method or attribute that targets had -> what to write today.
TARGET_MEMBERS: Mapping[str, str] = {
    "download_object": "Call download(force_local_download=True).",
    "download_prefix": "Call download(force_local_download=True).",
    "upload_object": "Write to the path of `with target.tmp_write_path() as path:`, which uploads when the block ends.",
    "upload_prefix": "Write into the folder of `with target.tmp_write_path() as path:`, which uploads when it ends.",
    "put_object": "Write into the folder of `with target.tmp_write_path() as path:`, which uploads when it ends.",
    "delete_remote_prefix": "Call remove(), which takes the record along.",
    "local_same_as_remote": "Call download(): it fetches only what is not the same, told by ETag.",
    "list_local_objects": "Walk local_path.",
    "list_remote_objects": "read_metadata()['output'] has contents, count and digest.",
    "region": "Use boto3.client('s3').get_bucket_location(Bucket=target.bucket).",
    "default_metadata_path": "metadata_path is where the record is.",
    "default_metadata_bucket": "metadata_path is where the record is.",
    "default_metadata_object_key": "metadata_path is where the record is.",
}


def refuse(module: str, name: str) -> NoReturn:
    """Answer for a name that `module` does not have: for `__getattr__` of modules.

    Raises:
        RenamedError: the name was there once; the message says what to write.
        AttributeError: it never was.
    """
    advice = MODULES.get(module, {}).get(name)
    if advice is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise RenamedError(f"{module}.{name} is no more. {advice}")
