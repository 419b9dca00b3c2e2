"""Errors of botocore in our words: what failed, where, what now; without anybody's secrets."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from superluigi.errors import BucketMissingError, CommitError, StorageAccessError, TargetError, TransferError

_REFUSED = {
    "403", "401", "AccessDenied", "Forbidden", "Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidClientTokenId", "AllAccessDisabled",
    "AccountProblem", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "AccessDeniedException",
}  # fmt: skip
_ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchVersion", "NoSuchUpload"}
_PRECONDITION = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_SIGNED = re.compile(r"((?:X-Amz-)?(?:Signature|Security-Token|Credential)=)[^&\s\"']+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """`text` without the passwords in addresses (`https://user:password@host`) and what makes presigned links valid."""
    return _SIGNED.sub(r"\1***", re.sub(r"://[^/@\s]*@", "://***@", text))


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

    try:
        yield
    except TargetError:
        raise
    except (ClientError, BotoCoreError) as error:
        raise translated(error, action, uri) from error


def translated(error: Exception, action: str, uri: str) -> TargetError:
    """Our error for one of botocore's, which loses the secrets that its message may hold, for it is chained."""
    from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

    error.args = tuple(without_secrets(str(part)) for part in error.args)
    code = code_of(error)
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)) or (
        isinstance(error, ClientError) and _is_refusal(error, code)
    ):
        return StorageAccessError(
            f"Cannot {action} {uri}: the store refuses ({code or error}). Whether it exists is unknown. "
            "Check the AWS credentials, profile or role in force, and their rights on this bucket."
        )
    if code == "NoSuchBucket":
        return BucketMissingError(
            f"Cannot {action} {uri}: there is no bucket {bucket!r}. Create it, or check its name and the endpoint."
        )
    if isinstance(error, ClientError):
        message = error.response.get("Error", {}).get("Message", "")
        kind = TransferError if action.startswith(("download", "upload")) else CommitError
        return kind(f"Cannot {action} {uri}: S3 answers {code} {message}. What was there before is unchanged.")
    return TransferError(
        f"Cannot {action} {uri}: {error}. Check the endpoint and the network, then run again; "
        "nothing that is not whole has been published."
    )


def _is_refusal(error: Any, code: str) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return code in _REFUSED or (status in (401, 403) and code != "InvalidObjectState")
