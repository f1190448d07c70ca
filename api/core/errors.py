"""What the service answers when it cannot do what was asked: one class a fact, each with HTTP status, type and a stable code.

No web framework here: the worker and the command line raise and read the same classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "conflict_error",
    "rate_limit_error",
    "service_unavailable_error",
    "internal_error",
]


class ServiceError(Exception):
    """A refusal that a caller can act on. `message` says what is allowed and what to do, and never repeats the value given.

    `param` is the path of the field at fault (`optimizer.batch_size`); `retry_after_s` becomes Retry-After.
    """

    status: ClassVar[int] = 500
    type: ClassVar[ErrorType] = "internal_error"
    code: ClassVar[str] = "internal_error"
    default: ClassVar[str] = "Something went wrong on our side."

    def __init__(
        self, message: str | None = None, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        self.message = message or self.default
        self.param = param
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class MissingApiKey(ServiceError):
    status = 401
    type = "authentication_error"
    code = "missing_api_key"
    default = "Send an API key as `Authorization: Bearer cpd_…`."


class InvalidApiKey(ServiceError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    default = "The API key is unknown, expired or revoked."


class InsufficientScope(ServiceError):
    status = 403
    type = "permission_error"
    code = "insufficient_scope"
    default = "The API key does not have the scope that this call needs."


class WebhooksOff(ServiceError):
    status = 403
    type = "permission_error"
    code = "webhooks_off"
    default = "The operator of this service has not turned webhooks on (CPD_WEBHOOKS)."


class NotFound(ServiceError):
    status = 404
    type = "not_found_error"
    code = "not_found"
    default = "There is no such thing here."


class MethodNotAllowed(ServiceError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    default = "This address does not answer to that method."


class BodyTimeout(ServiceError):
    status = 408
    type = "invalid_request_error"
    code = "body_timeout"
    default = "The request body did not arrive in time."


class JobAlreadyFinished(ServiceError):
    status = 409
    type = "conflict_error"
    code = "job_already_finished"
    default = "The job has finished; its state no longer changes."


class ComparisonAlreadyFinished(ServiceError):
    status = 409
    type = "conflict_error"
    code = "comparison_already_finished"
    default = "The comparison has finished; its state no longer changes."


class TableNotDue(ServiceError):
    status = 409
    type = "conflict_error"
    code = "table_not_due"
    default = "Jobs of the comparison are at work still; its table is made when the last of them has ended."


class JobBeingCancelled(ServiceError):
    status = 409
    type = "conflict_error"
    code = "job_being_cancelled"
    default = "The job is being cancelled and cannot be paused or resumed."


class ArtifactNotReady(ServiceError):
    status = 409
    type = "conflict_error"
    code = "artifact_not_ready"
    default = "The job has not made this yet."


class IdempotencyInFlight(ServiceError):
    status = 409
    type = "conflict_error"
    code = "idempotency_in_flight"
    default = "The first request with this Idempotency-Key is still being answered; retry shortly."


class DatasetInUse(ServiceError):
    status = 409
    type = "conflict_error"
    code = "dataset_in_use"
    default = "A job that has not finished uses this data set; cancel it or wait for its end."


class UploadEnded(ServiceError):
    status = 409
    type = "conflict_error"
    code = "upload_ended"
    default = "The upload was completed or cancelled, or its time is over; begin another."


class ArtifactExpired(ServiceError):
    status = 410
    type = "not_found_error"
    code = "artifact_expired"
    default = "A newer checkpoint took this one's place and its files were removed."


class BodyTooLarge(ServiceError):
    status = 413
    type = "invalid_request_error"
    code = "body_too_large"
    default = "The request body is larger than allowed."


class UploadTooLarge(ServiceError):
    status = 413
    type = "invalid_request_error"
    code = "upload_too_large"
    default = "The upload is larger than allowed."


class UriTooLong(ServiceError):
    status = 414
    type = "invalid_request_error"
    code = "uri_too_long"
    default = "The address is longer than allowed."


class UnsupportedMediaType(ServiceError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"
    default = "This call does not take that content type."


class RangeNotSatisfiable(ServiceError):
    status = 416
    type = "invalid_request_error"
    code = "range_not_satisfiable"
    default = "The range lies outside of the file."


class InvalidJson(ServiceError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_json"
    default = "The request body is not a JSON object that we accept."


class ValidationFailed(ServiceError):
    status = 422
    type = "invalid_request_error"
    code = "validation_error"
    default = "A field has a value that is not allowed."


class IdempotencyKeyReused(ServiceError):
    status = 422
    type = "invalid_request_error"
    code = "idempotency_key_reused"
    default = "This Idempotency-Key was used for a request with another body."


class ChecksumMismatch(ServiceError):
    status = 422
    type = "invalid_request_error"
    code = "checksum_mismatch"
    default = "The bytes that arrived do not have the stated sha256."


class InvalidDataset(ServiceError):
    status = 422
    type = "invalid_request_error"
    code = "invalid_dataset"
    default = "Too many rows of the data set cannot be used."


class TokenizerMismatch(ServiceError):
    status = 422
    type = "invalid_request_error"
    code = "tokenizer_mismatch"
    default = "Teacher and student do not share a tokenizer."


class QuotaExceeded(ServiceError):
    status = 429
    type = "rate_limit_error"
    code = "quota_exceeded"
    default = "The quota is used up; delete something or wait for jobs to finish."


class RateLimited(ServiceError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limited"
    default = "Too many requests; slow down."


class DatabaseUnavailable(ServiceError):
    status = 503
    type = "service_unavailable_error"
    code = "database_unavailable"
    default = "The database does not answer; retry shortly."


class StorageUnavailable(ServiceError):
    status = 503
    type = "service_unavailable_error"
    code = "store_unavailable"
    default = "The store of files does not answer; retry shortly."


class InsufficientStorage(ServiceError):
    status = 507
    type = "service_unavailable_error"
    code = "insufficient_storage"
    default = "There is no room left to store this."
