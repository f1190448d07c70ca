"""What to do about a refusal: the next command, for those whose message cannot name it because the service speaks to programs too."""

from __future__ import annotations

from api.remote.trouble import Refused, Trouble

_KEY = "give one with --api-key or CPD_API_KEY, or run cpd beside the service's data folder; `cpd keys create NAME` makes one"
_BY_CODE = {
    "missing_api_key": _KEY,
    "invalid_api_key": _KEY,
    "insufficient_scope": "ask the operator for a key with it: `cpd keys create NAME --scope read --scope write`",
    "webhooks_off": "ask the operator to turn them on",
    "artifact_not_ready": "`cpd watch JOB` follows the job until it is",
    "artifact_expired": "`cpd show JOB` lists what there is",
    "job_already_finished": "`cpd show JOB` tells how it ended, `cpd submit` queues another",
    "job_being_cancelled": "wait for its end with `cpd watch JOB`",
    "comparison_already_finished": "`cpd comparisons show COMPARISON` has its table",
    "table_not_due": "`cpd comparisons watch COMPARISON` waits for it",
    "checksum_mismatch": "upload the file again",
    "invalid_dataset": "`cpd datasets check FILE` tells every bad row, and what would mend it",
    "idempotency_key_reused": "take another --idempotency-key, or the spec that was sent with it",
    "rate_limited": "wait a minute",
    "internal_error": "tell the operator the request's number",
}
# Of a path's first part, what lists the things that there are.
_LISTS = {
    "jobs": "`cpd jobs` lists those that this key may see",
    "datasets": "`cpd datasets list` lists those that this key may see",
    "comparisons": "`cpd comparisons list` lists those that this key may see",
}


def told(trouble: Trouble) -> str:
    """The fault in one line, which ends with what to do."""
    remedy = next_step(trouble) if isinstance(trouble, Refused) else None
    return f"{trouble}: {remedy}" if remedy else str(trouble)


def next_step(refused: Refused) -> str | None:
    """What to do, or None where the message says it."""
    match refused.code, refused.path.strip("/").split("/"):
        case "not_found", ["v1", "jobs", _, "checkpoints", *_]:
            return "`cpd jobs` lists the jobs that this key may see, `cpd show JOB` a job's checkpoints"
        case "not_found", _ if refused.param in {"suite", "against"}:
            return "`cpd show JOB` names those that it has"
        case "not_found", ["v1", kind, *_] if kind in _LISTS and refused.param is None:
            return _LISTS[kind]
        case code, _ if code.startswith("http_"):
            return "is this CPD's address? See --url and CPD_URL"
        case code, _:
            return _BY_CODE.get(code)
