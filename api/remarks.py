"""What a job's events say, as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.quantities import count, duration, number, size

SUBJECTS = {
    "teacher": "teacher",
    "untouched": "untouched student",
    "sft": "CE-only student",
    "kld": "KLD student",
    "student": "distilled student",
}
# A metric, its name with its unit, and the digits that mean something.
METRICS = (("exact_match", "exact match %", 1), ("rouge_l", "ROUGE-L", 2), ("ce", "held-out CE", 3))
TRAINED = {"teacher": "teacher", "student": "student", "sft": "CE-only student", "kld": "KLD student"}


def remark(kind: str, data: Mapping[str, Any]) -> str | None:
    """The line that stays on the screen for an event worth keeping; None for the rest."""
    match kind:
        case "state_changed":
            reason = f": {data['reason']}" if data.get("reason") else ""
            return f"job {data['to']}{reason}"
        case "phase_finished":
            reused = " (from an earlier attempt)" if data["reused"] else ""
            return f"{data['phase']} done in {duration(data['duration_s'])}{reused}"
        case "data_ready":
            return "data: " + ", ".join(f"{count(rows)} {split}" for split, rows in data["rows"].items()) + " rows"
        case "tokenizers_compared":
            return _tokenizers(data)
        case "planned":
            return f"plan: {count(data['total_iterations'])} optimizer steps over {len(data['epochs'])} epochs"
        case "forecasted":
            return _forecast(data)
        case "profile_ready":
            return f"profile: {count(data['samples'])} samples, mean difficulty {number(data['mean'], 3)} ({data['difficulty']})"
        case "teacher_states_planned":
            return _teacher_once(data)
        case "recalled":
            return f"{data['what'].replace('_', ' ')}: taken over from another job"
        case "evaluated":
            return _scores(data)
        case "warned":
            return f"warning: {data['message']} ({data['code']})"
        case "exported":
            return f"exported {count(data['parameters'])} parameters ({', '.join(data['formats'])})"
        case "failed":
            return f"failed: {data['message']} ({data['code']})"
        case _:
            return None


def _tokenizers(data: Mapping[str, Any]) -> str:
    ends, template = {data["teacher_end"], data["student_end"]}, data["same_template"]
    told = [f"{count(data['alike'])} of {count(data['rows'])} rows split alike", f"end {' / '.join(sorted(ends))}"]
    if template is not None:
        told.append("one chat template" if template else "two chat templates")
    return f"tokenizers: {count(data['vocabulary'])} tokens in common, {', '.join(told)}"


def _teacher_once(data: Mapping[str, Any]) -> str:
    if data["kept"] == "off":
        return f"teacher: its states are not kept: {data['reason']}"
    ratio = data["operations_ratio"]
    saved = f", {number(ratio, 1)} × fewer operations in all" if ratio is not None else ""
    passes = f"{number(data['passes_without'], 1)} passes become {number(data['passes_with'], 0)}"
    return f"teacher: {size(data['states_bytes'])} of states ({data['kept']}): {passes}{saved}"


def _scores(data: Mapping[str, Any]) -> str:
    names = {"exact_match": "exact match", "rouge_l": "ROUGE-L", "ce": "CE"}
    scores = ", ".join(f"{names.get(name, name)} {number(value, 2)}" for name, value in data["metrics"].items())
    epoch = f" after epoch {data['epoch']}" if data.get("epoch") is not None else ""
    return f"{SUBJECTS.get(data['subject'], data['subject'])}{epoch} on {data['split']}: {scores}"


def _forecast(data: Mapping[str, Any]) -> str:
    least, most = duration(data["least_s"]), duration(data["most_s"])
    return (
        f"forecast: {duration(data['duration_s'])} in all (between {least} and {most}), {number(data['tokens_per_s'], 0)} tokens/s, "
        f"{size(data['memory_bytes'])} of memory"
    )
