"""What people write in the place of `s3://bucket/key`, and the bucket and key that it means."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

import luigi
from luigi.format import Format

_SCHEMES = re.compile(
    r"(?:s3[an]?:/{0,2}|s3[an]?//|arn:aws[\w-]*:s3:::)(?P<bucket>[^/:]+)/*(?P<key>.*)", re.IGNORECASE | re.S
)
_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3(?:[.-][\w.-]+)?\.amazonaws\.com(?:\.cn)?")
_CONSOLE = re.compile(r"/s3/(?:buckets|object)/(?P<bucket>[^/]+)")


def meant(text: str) -> tuple[str, str] | None:
    """Bucket and key (which may be "") of an address in any spelling: `s3:/b/k`, an ARN, a web or console address."""
    if found := _SCHEMES.fullmatch(text):
        return found["bucket"], found["key"]
    if not text.lower().startswith(("http://", "https://")):
        return None
    parts = urlsplit(text)
    host, path = parts.hostname or "", unquote(parts.path)
    if host.endswith("console.aws.amazon.com") and (found := _CONSOLE.match(path)):
        return found["bucket"], parse_qs(parts.query).get("prefix", [""])[0]
    if found := _HOST.fullmatch(host):
        bucket, key = found["bucket"], path.lstrip("/")
        return (bucket, key) if bucket else (key.partition("/")[0], key.partition("/")[2])
    return None


def hint_for_path(name: str, value: object) -> str:
    """What may have been meant by a `value` that is no place, as a sentence."""
    if isinstance(value, luigi.Task):
        return " Of a task that is required, take `input_path` in run(); its output is at task.output().path."
    if isinstance(value, luigi.Target):
        return " A target has its path: target.path."
    if name == "metadata_path" and isinstance(value, Format):
        return " The format of a target is given by name: format=…."
    return ""
