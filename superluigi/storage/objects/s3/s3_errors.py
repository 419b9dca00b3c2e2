"""Errors of botocore in our words: what failed, where, what now; without secrets."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping
from typing import Any

from superluigi.errors import (
    BucketMissingError,
    CommitError,
    StorageAccessError,
    SuperLuigiError,
    TargetError,
    TransferError,
    met_users_code,
)

_REFUSED = {
    "403", "401", "AccessDenied", "Forbidden", "Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidClientTokenId", "AllAccessDisabled",
    "AccountProblem", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "AccessDeniedException",
}  # fmt: skip
_ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchVersion", "NoSuchUpload"}
#: Said with any status, 403 and 507 among them.
_FULL = re.compile("quota|insufficientstorage|storagefull|diskfull|^507$", re.IGNORECASE)
_PRECONDITION = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_HEADER = re.compile(r"(Invalid header value) .*", re.DOTALL)
_SIGNED = re.compile(r"((?:X-Amz-)?(?:Signature|Security-Token|Credential)=)[^&\s\"']+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """`text` without passwords in addresses (`https://user:password@host`), what makes links valid, and headers."""
    return _HEADER.sub(r"\1", _SIGNED.sub(r"\1***", re.sub(r"://[^/@\s]*@", "://***@", text)))


def code_of(error: BaseException) -> str:
    """The S3 error code of a botocore ClientError, or ''."""
    response = getattr(error, "response", None)
    return str(response["Error"].get("Code", "")) if isinstance(response, dict) and "Error" in response else ""


def is_absent(error: BaseException) -> bool:
    return code_of(error) in _ABSENT


def is_precondition(error: BaseException) -> bool:
    return code_of(error) in _PRECONDITION


@contextlib.contextmanager
def explained(action: str, uri: str) -> Iterator[None]:
    """Turn errors of botocore into ours: what failed, where, what now."""
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    try:
        yield
    except SuperLuigiError:
        raise
    except ResponseParserError as error:
        raise no_s3(uri, f"{action}: {without_secrets(str(error)).partition(chr(10))[0][:200]}") from error
    except (ClientError, BotoCoreError) as error:
        raise translated(error, action, uri) from error
    except (KeyError, ValueError) as error:  # of a reader of its answers: one lacks this, or has no such number or date
        if met_users_code(error):  # what is told of the progress
            raise
        raise no_s3(uri, f"{action}: {type(error).__name__} {error}") from error


def no_s3(where: str, what: str) -> TransferError:
    return TransferError(
        f"What answers for {where} is no S3 ({what}). Check endpoint_url (AWS_ENDPOINT_URL), and what stands between: "
        "a proxy, or a page to sign in."
    )


def translated(error: Exception, action: str, uri: str) -> TargetError:
    """Our error for one of botocore's, which loses the secrets that its message may hold, for it is chained."""
    from botocore.exceptions import ClientError

    remedy = _remedy(error)
    if remedy is not None:
        return access_error(error, f"Cannot {action} {uri}")
    _clear_of_secrets(error)
    code = code_of(error)
    bucket = bucket_of(uri)
    answer: dict[str, Any] = getattr(error, "response", None) or {}  # of one that got no answer it is None
    message = without_secrets(str(answer.get("Error", {}).get("Message", "")))
    if isinstance(error, ClientError) and _is_refusal(error, code) and not _FULL.search(code):
        # More than "Access Denied": of AWS, who asked for what, and which policy is against it.
        said = f": {message.rstrip('.')}" if len(message.split()) > 2 else ""
        return StorageAccessError(
            f"Cannot {action} {uri}: the store refuses ({code or error}{said}). Whether it exists is unknown. "
            f"Check the AWS credentials, profile or role in force, and their rights on this bucket{_right(error)}."
        )
    if code == "NoSuchBucket":
        return BucketMissingError(
            f"Cannot {action} {uri}: there is no bucket {bucket!r}. Create it, or check its name and the endpoint."
        )
    if code == "InvalidObjectState":
        return TransferError(f"Cannot {action} {uri}: it is archived (Glacier). Restore it first, then run again.")
    if isinstance(error, ClientError):
        kind = TransferError if action.startswith(("download", "upload")) else CommitError
        answered = kind(f"Cannot {action} {uri}: S3 answers {code} {message.rstrip('. ')}. {_advice(error, code)}")
        answered.errno = errno.ENOSPC if _FULL.search(code) else None
        return answered
    return TransferError(
        f"Cannot {action} {uri}: {error}. Check the endpoint and the network, then run again; "
        "nothing that is not whole has been published."
    )


def _advice(error: Any, code: str) -> str:
    if _FULL.search(code):
        return "No room is left: free some, or have the quota raised; nothing that is not whole has been published."
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0
    if 300 <= status < 400:
        return "It is elsewhere: check endpoint_url (its scheme too, http or https) and region_name."
    if status >= 500:
        return "It is overloaded or out of order: run again later; nothing that is not whole has been published."
    return "Nothing that is not whole has been published."


def bucket_of(uri: str) -> str:
    """The bucket in `s3://bucket/key`; that of an access point is an ARN with slashes of its own."""
    return split(uri)[0]


_ADDRESS = re.compile(
    r"s3://(arn:[^/]*:accesspoint/[^/]+|arn:[^/]*:outpost/[^/]+/accesspoint/[^/]+|[^/]*)(?:/(.*))?", re.DOTALL
)


def split(uri: str) -> tuple[str, str | None]:
    """Bucket and key of `s3://bucket/key`; no key (None) where no slash follows the bucket."""
    found = _ADDRESS.fullmatch(uri)
    return (found[1], found[2]) if found else ("", None)


# ---------------------------------------------------------------- who we are

#: By the name of an error of botocore, for not every version has all of them: what to do about it.
_KEYS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give a profile_name; anonymous=True needs none"
)
_SIGN_IN = "Sign in again (`aws sso login`, or `aws login`, with the same profile), then run again"
_FILES = (
    "Mend the files that AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name, or ~/.aws/config and ~/.aws/credentials"
)
_ADDRESS_ADVICE = "Write endpoint_url (AWS_ENDPOINT_URL) with its scheme, as in http://127.0.0.1:9000"
_REGION = "Set AWS_DEFAULT_REGION or region_name to a region that exists, as in eu-central-1"
_SETTINGS = "Check the options of the target and the AWS environment and config file"
_REMEDIES = {
    "NoCredentialsError": _KEYS,
    "PartialCredentialsError": "Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither",
    "ProfileNotFound": "Check AWS_PROFILE or profile_name; `aws configure list-profiles` shows those that exist",
    "CredentialRetrievalError": "Check what the profile names: its credential_process, its source, its session",
    "UnknownCredentialError": _FILES,
    "MetadataRetrievalError": "Check the role of this machine or container, or set credentials",
    "RefreshWithMFAUnsupportedError": "Get temporary credentials with MFA first (`aws sts get-session-token`)",
    "MissingDependencyException": "Install what it names (`pip install 'botocore[crt]'`), or sign in another way",
    "UnknownTokenProviderError": _SIGN_IN,
    **dict.fromkeys(("SSOError", "LoginError", "TokenRetrievalError", "NoAuthTokenError"), _SIGN_IN),
    **dict.fromkeys(("ConfigNotFound", "ConfigParseError", "InvalidConfigError"), _FILES),
    **dict.fromkeys(("NoRegionError", "InvalidRegionError", "UnknownRegionError", "UnknownEndpointError"), _REGION),
    "InvalidEndpointConfigurationError": _REGION,
    **dict.fromkeys(("BaseEndpointResolverError", "EndpointProviderError"), _REGION),
}  # fmt: skip
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
#: Keys that were changed, and sessions that were revoked.
_UNKNOWN = {"InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "InvalidTokenId"}


def access_error(error: Exception, failed: str) -> StorageAccessError:
    """Our error for whatever keeps us from having an identity at the store: `failed`, why, and what now."""
    why = str(_clear_of_secrets(error)).strip().rstrip(".: ") or type(error).__name__
    remedy = _remedy(error) or _remedy_for_others(error)
    return StorageAccessError(f"{failed}: {why}. Whether it exists is unknown. {remedy}.")


def has_ended(answer: Mapping[str, Any]) -> bool:
    """Whether a server refuses because of who asks, who may have been another's by now."""
    return str(answer.get("Error", {}).get("Code", "")) in _EXPIRED | _UNKNOWN


def _remedy(error: BaseException) -> str | None:
    """What to do where credentials, profile, region or address are the trouble; None where they are not."""
    if code_of(error) in _EXPIRED:
        return f"The credentials have expired. {_SIGN_IN}; or renew AWS_SESSION_TOKEN"
    if "valid URI" in str(error):  # of an endpoint with an unknown scheme
        return _ADDRESS_ADVICE
    if "Invalid header value" in str(error):
        return "A key, a token or the region has a line break in it: set AWS_ACCESS_KEY_ID and the like without"
    return next((_REMEDIES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _REMEDIES), None)


def _remedy_for_others(error: Exception) -> str:
    """For errors that have no name of their own: of parsers, programs and files that botocore uses."""
    text = str(error).lower()
    if isinstance(error, OSError):
        return f"Check the file or program {error.filename}" if error.filename else _SETTINGS
    if "endpoint" in text or "url" in text or "port" in text:
        return _ADDRESS_ADVICE
    return _SETTINGS


def _clear_of_secrets(error: Exception) -> Exception:
    at: BaseException | None = error
    for _ in range(10):  # not for ever: a chain of others may be a circle
        if at is not None:
            at.args = tuple(without_secrets(part) if isinstance(part, str) else part for part in at.args)
            at = at.__cause__ or at.__context__
    return error


def _right(error: BaseException) -> str:
    """Which right the refused request needs."""
    operation = str(getattr(error, "operation_name", ""))
    looking = "s3:GetObject; without s3:ListBucket a missing key is refused as well"
    right = {
        "ListObjectsV2": "s3:ListBucket", "HeadObject": looking, "GetObject": looking,
        "PutObject": "s3:PutObject", "CreateMultipartUpload": "s3:PutObject", "UploadPart": "s3:PutObject",
        "CompleteMultipartUpload": "s3:PutObject", "CopyObject": "s3:GetObject and s3:PutObject",
        "DeleteObject": "s3:DeleteObject", "DeleteObjects": "s3:DeleteObject",
        "AbortMultipartUpload": "s3:AbortMultipartUpload", "ListMultipartUploads": "s3:ListBucketMultipartUploads",
        "ListObjectVersions": "s3:ListBucketVersions",
    }.get(operation)  # fmt: skip
    return f"; {operation} needs {right}" if right else ""


def _is_refusal(error: Any, code: str) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return code in _REFUSED or (status in (401, 403) and code != "InvalidObjectState")
