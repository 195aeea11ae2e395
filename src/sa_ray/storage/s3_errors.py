"""Explain S3 errors: the fault, and the setting that fixes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from botocore.exceptions import (
    ConnectionError as BotocoreConnectionError,
)

from sa_ray.errors import ObjectStoreError, UnwritableKeyError
from sa_ray.settings.storage import StorageSettings

_CREDENTIALS_REFUSED: Final = frozenset(
    {
        "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
        "InvalidToken", "Unauthorized", "InvalidSecurity", "AccountProblem", "401", "403",
    }
)  # fmt: skip

_MAY_PASS: Final = frozenset(
    {
        "BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout",
        "ServiceUnavailable", "SlowDown", "Throttling", "TooManyRequests",
        "XAmzContentSHA256Mismatch",
    }
)  # fmt: skip
"""Answers besides 429 and 5xx that a retry can cure.

(Amazon S3, API Reference, "Error responses".)"""

_UNREACHABLE: Final = (
    BotocoreConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)

_CHECK_SETTINGS: Final = "Check the STABLE_AUDIO_STORAGE_ settings."

_TOO_MANY_REQUESTS: Final = 429
_FIRST_SERVER_FAULT: Final = 500


def variables(*fields: str) -> str:
    """List the environment variables of settings: aliases with ``/``, settings with ``and``."""
    return " and ".join("/".join(StorageSettings.variables(field)) for field in fields)


def code_of(error: ClientError) -> str:
    """Return the S3 error code, or the HTTP status of an answer without a body (to HEAD)."""
    return error.response.get("Error", {}).get("Code", "unknown")


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn errors of botocore into ``ObjectStoreError``.

    The message begins with ``where``, names the variables to set and holds no secret.
    """
    try:
        yield
    except ClientError as error:
        raise _answered(where, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise _refused(where, "no credentials were found", _set_credentials()) from error
    except CredentialRetrievalError as error:
        raise ObjectStoreError(f"{where}: the credentials could not be fetched. {error}") from error
    except _UNREACHABLE as error:
        raise ObjectStoreError(
            f"{where} cannot be reached ({type(error).__name__}). If this lasts, check "
            f"{variables('storage_endpoint_url')} and the network."
        ) from error
    except ParamValidationError as error:
        raise _refused(where, "its name is malformed", _set_bucket()) from error
    except BotoCoreError as error:
        # Its text may hold the endpoint URL, which may hold a password.
        reason = f"the settings do not fit ({type(error).__name__})"
        raise _refused(where, reason, _CHECK_SETTINGS) from error


def _answered(where: str, error: ClientError) -> ObjectStoreError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return explanation(where, code_of(error), status)


def explanation(where: str, code: str, status: int = 0) -> ObjectStoreError:
    """Return the error for an S3 error code. ``status``: that of HTTP, 0 if there is none."""
    if status == _TOO_MANY_REQUESTS or status >= _FIRST_SERVER_FAULT or code in _MAY_PASS:
        return ObjectStoreError(f"{where} cannot serve now ({code}).")
    if code in _CREDENTIALS_REFUSED:
        reason = f"the credentials were refused ({code})"
        rights = "They need the right to read, write, delete and list objects."
        return _refused(where, reason, f"{_set_credentials()} {rights}")
    match code:
        case "KeyTooLongError" | "KeyTooLong":
            return UnwritableKeyError(
                f"{where}: the key of the object is too long. Shorten "
                f"{variables('storage_prefix')}.",
                transient=False,
            )
        case "NoSuchBucket" | "InvalidBucketName" | "404":
            advice = _set_bucket()
        case "AuthorizationHeaderMalformed" | "PermanentRedirect" | "301":
            advice = f"Set {variables('storage_region', 'storage_endpoint_url')}."
        case "RequestTimeTooSkewed":
            advice = "Set the clock of this machine."
        case _:
            advice = _CHECK_SETTINGS
    return _refused(where, f"the store refused ({code})", advice)


def _refused(where: str, reason: str, advice: str) -> ObjectStoreError:
    return ObjectStoreError(f"{where}: {reason}. {advice}", transient=False)


def _set_bucket() -> str:
    return f"Set {variables('storage_bucket')} to a bucket that exists."


def _set_credentials() -> str:
    return f"Set {variables('storage_access_key_id', 'storage_secret_access_key')}."
