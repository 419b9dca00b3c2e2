"""How S3 is to be reached, as a value: what a target was given, and what is around this process.

Two targets with equal values share a client; whatever can decide which server is asked, and as whom, is part of one
of the two values, and so of the key of every cache that depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from superluigi.errors import OptionError
from superluigi.storage.objects.s3.s3_errors import without_secrets

SESSION_OPTIONS = ("profile_name", "aws_account_id")
ROLE_OPTIONS = ("role_session_name", "external_id", "role_duration_seconds", "sts_endpoint_url")
_CREDENTIALS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_CLIENT_OPTIONS = (
    "endpoint_url", "region_name", *_CREDENTIALS,
    "verify", "use_ssl", "api_version", "config", *SESSION_OPTIONS,
)  # fmt: skip


_SHOWN = ("endpoint_url", "region_name", "profile_name")


@dataclass(frozen=True)
class _Table:
    """A dict as a value: hashable, equal to another one of the same items."""

    items: tuple[tuple[str, object], ...]


def _frozen(value: object, where: str) -> object:
    if isinstance(value, Mapping):
        return _Table(tuple(sorted((str(key), _frozen(item, where)) for key, item in value.items())))
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item, where) for item in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return value
    raise OptionError(f"{where} holds {value!r}; options of S3 are text, numbers, lists and dicts of these.")


def _thawed(value: object) -> Any:
    return {key: _thawed(item) for key, item in value.items} if isinstance(value, _Table) else value


@dataclass(frozen=True)
class S3Options:
    """How to reach S3: keywords of a boto3 client, plus `role_arn` and friends. Frozen, hashable, picklable.

    Equal by value, also in what a `config` says.
    """

    items: tuple[tuple[str, object], ...] = ()
    role_arn: str | None = None
    #: Requests are not signed: for public buckets.
    anonymous: bool = False

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> S3Options:
        """Check and freeze the keywords that a target was given.

        Raises:
            OptionError: an unknown keyword; names the known ones. Or a value that cannot be one.
        """
        given = {name: value for name, value in keywords.items() if value is not None}
        role, anonymous = given.pop("role_arn", None), bool(given.pop("anonymous", False))
        known = (*_CLIENT_OPTIONS, *ROLE_OPTIONS)
        for name in given:
            if name not in known:
                shown = ", ".join(sorted((*known, "anonymous", "role_arn")))
                raise OptionError(f"Unknown option {name!r} for S3. Known: {shown}.")
        if "config" in given:
            said, unsigned = _config_items(given.pop("config"))
            anonymous = anonymous or unsigned
            given |= {"config": said} if said else {}
        signing = sorted(name for name in given if name in _CREDENTIALS) + ["role_arn"] * bool(role)
        if anonymous and signing:
            raise OptionError(
                f"anonymous=True signs nothing, so leave out {', '.join(signing)}; or leave out anonymous."
            )
        return cls(tuple(sorted((name, _frozen(value, name)) for name, value in given.items())), role, anonymous)

    def get(self, name: str, default: object = None) -> object:
        return next((value for known, value in self.items if known == name), default)

    def keywords(self) -> dict[str, object]:
        """The keywords for boto3, but for `config`."""
        return {name: _thawed(value) for name, value in self.items if name != "config"}

    def config(self) -> dict[str, Any]:
        """What the `config` that was given says itself."""
        return dict(_thawed(self.get("config", _Table(()))))

    def __str__(self) -> str:
        """What of it is no secret, for messages."""
        shown = [f"{name}={value}" for name, value in self.items if name in _SHOWN]
        shown += [f"role_arn={self.role_arn}"] * bool(self.role_arn) + ["anonymous=True"] * self.anonymous
        return without_secrets(", ".join(shown) or "what is in the AWS environment and config")

    def __repr__(self) -> str:  # never shows a secret
        return f"S3Options({self})"


def _config_items(config: object) -> tuple[dict[str, object], bool]:
    """What a botocore Config says (two of them are never equal), and whether it is that nothing is signed."""
    from botocore import UNSIGNED  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    if not isinstance(config, Config):
        raise OptionError(f"config must be a botocore.config.Config, not a {type(config).__name__}.")
    said = dict(config._user_provided_options)
    unsigned = said.get("signature_version") is UNSIGNED
    if unsigned:
        del said["signature_version"]
    return said, unsigned


# ---------------------------------------------------------------- what is around this process

Environment = tuple[tuple[str, Any], ...]
#: Besides everything that begins with AWS_: where files are, proxies, certificates.
_NAMES = frozenset((
    "HOME", "BOTO_CONFIG", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
))  # fmt: skip
#: Variables that say who we are.
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
)  # fmt: skip
_FILES = (
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ("BOTO_CONFIG", "~/.boto"),
    ("AWS_CREDENTIAL_FILE", ""),
    ("AWS_CA_BUNDLE", ""),
    ("REQUESTS_CA_BUNDLE", ""),
)


def environment() -> Environment:
    """All that the AWS chain reads around this process: variables, and which version of its files is there.

    Tests and notebooks change it while the process runs, and other programs renew the credentials in a file.
    """
    variables, files = _variables()
    return (*variables, *[(name, _stamp(path)) for name, path in files])


_Variables = tuple[Environment, list[tuple[str, str]]]
_last: list[tuple[dict[object, object], _Variables]] = []


def _variables() -> _Variables:
    """The variables, and which files they make us look at; asked many times a task, and hardly ever another answer."""
    table = getattr(os.environ, "_data", None) if type(os.environ) is os._Environ else None
    for known, variables in _last[-1:]:
        if table == known:
            return variables
    before = dict(table) if table is not None else None
    found: dict[str, Any] = {
        name: os.environ.get(name) for name in os.environ if name.startswith("AWS_") or name in _NAMES
    }
    home = found.get("HOME") or os.path.expanduser("~")
    paths = [(f"file {name}", found.get(name) or usual) for name, usual in _FILES]
    files = [(name, home + path[1:] if path.startswith("~/") else os.path.expanduser(path)) for name, path in paths]
    made = tuple(sorted(found.items())), files
    if before is not None and before == table:  # else another thread has changed it meanwhile
        _last[:] = [(before, made)]
    return made


def variables_of(around: Environment, but: Collection[str] = ()) -> Environment:
    """What `environment` found, without the versions of files, and without the variables of `but`."""
    return tuple(item for item in around if not item[0].startswith("file ") and item[0] not in but)


def _stamp(path: str) -> tuple[int, ...] | None:
    if not path:
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
