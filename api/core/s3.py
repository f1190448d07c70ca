"""How S3 is spoken to, and what it says when it will not, in words for whoever runs the service. No word of them is a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError
from s3fs import S3FileSystem

_CONNECT_S = 5.0
_ANSWER_S = 20.0

_NO_BUCKET = frozenset({"NoSuchBucket"})
_NOT_ALLOWED = frozenset(
    {"AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
    | {"403", "401"}
)
_ELSEWHERE = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "TemporaryRedirect"}
    | {"301", "307"}
)
_SKEWED = frozenset({"RequestTimeTooSkewed"})


def client(endpoint: str | None, region: str | None, timeout_s: float) -> S3FileSystem:
    """Without s3fs's caches and retries: what is not in the listing now is not there, and botocore has tried already."""
    made = S3FileSystem(
        endpoint_url=endpoint,
        client_kwargs={} if region is None else {"region_name": region},
        config_kwargs={
            "signature_version": "s3v4",
            "connect_timeout": _CONNECT_S,
            "read_timeout": min(_ANSWER_S, timeout_s),
            "retries": {"mode": "standard", "total_max_attempts": 3},
            "max_pool_connections": 50,
            # Our own sums go with every file; those of botocore's choice are unknown to some servers.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    made.retries = 1
    return made


def begun_uploads(ask: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every upload in parts that has not ended, as ListMultipartUploads tells them: `ask` makes the request for the page after a marker."""
    page = ask()
    yield from page.get("Uploads", ())
    while page.get("IsTruncated"):
        page = ask(KeyMarker=page["NextKeyMarker"], UploadIdMarker=page["NextUploadIdMarker"])
        yield from page.get("Uploads", ())


def abandoned(uploads: Iterable[dict[str, Any]], before: datetime) -> list[dict[str, Any]]:
    """Those that began before a time. Later ones may be under way."""
    return [upload for upload in uploads if upload["Initiated"] < before]


def code(error: BaseException) -> str | None:
    """The server's own name for what is wrong; None where it said nothing."""
    cause = error if isinstance(error, ClientError) else error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "unknown")) if isinstance(cause, ClientError) else None


def reason(error: BaseException, bucket: str, endpoint: str | None) -> str:
    """One sentence, with what to do."""
    where = endpoint or "AWS"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (
            f"there are no credentials for bucket {bucket}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
        )
    match code(error):
        case None:
            return f"bucket {bucket} does not answer at {where} ({type(error).__name__}): see CPD_S3_ENDPOINT"
        case said if said in _NO_BUCKET:
            return f"there is no bucket {bucket} at {where}: make it, or mend CPD_STORE_URL"
        case said if said in _NOT_ALLOWED:
            return (
                f"bucket {bucket} at {where} refuses the credentials of the environment ({said}): see AWS_ACCESS_KEY_ID"
            )
        case said if said in _ELSEWHERE:
            return f"bucket {bucket} is in another region ({said}): set CPD_S3_REGION"
        case said if said in _SKEWED:
            return f"bucket {bucket} at {where} refuses this machine's clock ({said}): set it right"
        case said:
            return f"bucket {bucket} at {where} answers {said}"
