"""What a run did, in words for people who have not read the paper. Pure: from the settings with everything resolved."""

from __future__ import annotations

from api.reports.words import percent
from cpd_engine.config import (
    HubModel,
    LocalModel,
    RunConfig,
    StudentFromTeacher,
    StudentRef,
    TeacherRef,
    TinyModel,
)

_TARGETS = {
    "pmtd": "the student is drawn towards a mixture of the teacher's next-token probabilities and its own, of which its own part grows",
    "taid": "the student is drawn towards a mixture of its own next-token scores and the teacher's, of which the teacher's part grows",
    "kld": "the student is drawn towards all that the teacher holds likely (forward Kullback-Leibler divergence)",
    "rkl": "the student is drawn towards what the teacher holds most likely (reverse Kullback-Leibler divergence)",
    "jsd": "the student is drawn towards the teacher by a compromise of both directions (Jensen-Shannon divergence)",
    "tvd": "the student is drawn towards the teacher by the total variation of their probabilities",
    "skl": "the student is drawn towards the teacher by a divergence that is softened with its own probabilities (skewed KL)",
    "srkl": "the student is drawn towards the teacher by a reverse divergence that is softened with its probabilities (skewed reverse KL)",
    "bdl": "the student is drawn towards the teacher by a divergence in both directions, weighed against each other",
    "abkd": "the student is drawn towards the teacher by the α-β-divergence",
    "sft": "the student learns from the answers in the data alone; the teacher plays no part (plain fine-tuning)",
}
_ORDERS = {
    "calibrated": "It begins with the easiest samples and takes in harder ones epoch by epoch, at equal steps of difficulty",
    "calibrated_affine": "It begins with the easiest samples and takes in harder ones epoch by epoch, at steps of difficulty",
    "linear": "It begins with the easiest samples and takes in equally many more in every epoch",
    "cosine": "It begins with the easiest samples and takes in more in every epoch, slowly at first",
    "baby_step": "It begins with the easiest quarter of the samples and takes in the next in stages",
    "dakd": "It begins with all samples and keeps ever fewer, the hardest",
    "none": "It sees all samples in every epoch",
}
_MEASURES = {
    "ce_mean": "the untrained student's loss per token",
    "ce_sum": "the untrained student's loss over the whole answer",
    "teacher_ce": "the teacher's loss",
    "dds": "how much better than the untrained student the teacher does",
    "entropy": "how unsure the untrained student is",
    "rouge_l": "how little the untrained student's answer has in common with the right one",
    "rank_fusion": "the untrained student's loss and its answer's likeness to the right one",
    "answer": "whether the untrained student's answer is right",
    "tests": "whether the untrained student's program passes its tests",
}


def model(reference: TeacherRef | StudentRef) -> str:
    """A model by name."""
    match reference:
        case HubModel():
            return reference.hub
        case LocalModel():
            return reference.local
        case TinyModel():
            return f"a {reference.tiny} decoder, {reference.layers} × {reference.hidden}, with fresh weights"
        case StudentFromTeacher():
            layers = "layer" if reference.drop_layers == 1 else "layers"
            return f"the teacher without its {reference.drop_layers} least useful {layers}"


def explained(config: RunConfig) -> str:
    """The method in a few sentences. `config` is resolved."""
    parts = [_target(config), _order(config), _warmth(config), *_extras(config)]
    return " ".join(part for part in parts if part)


def _target(config: RunConfig) -> str:
    what = _TARGETS[config.divergence or "pmtd"]
    if config.divergence == "sft":
        return f"{what[0].upper()}{what[1:]}."
    weights = config.alpha if isinstance(config.alpha, tuple) else (config.alpha or 0.0,)
    first, last = weights[0], weights[-1]
    if not any(weights):
        return f"Token by token, {what}."
    share = percent(first) if first == last else f"{percent(first)} at first and {percent(last)} at last"
    return f"Token by token, {what}; {share} of the loss is for the answers in the data themselves."


def _order(config: RunConfig) -> str:
    order = _ORDERS[config.curriculum or "none"]
    if config.curriculum == "none":
        return f"{order}."
    return f"{order}; difficulty is {_MEASURES[config.difficulty or 'ce_mean']}."


def _warmth(config: RunConfig) -> str:
    first, last = config.tau_1, config.tau_n
    if config.divergence == "sft" or first is None or last is None or (first == 1.0 and last == 1.0):
        return ""
    told = f"τ = {first:g}" if first == last else f"τ from {first:g} in the first epoch to {last:g} in the last"
    return f"The teacher's probabilities are softened by a temperature ({told})."


def _extras(config: RunConfig) -> list[str]:
    found = []
    if config.teacher_sft is not None:
        found.append("The teacher was fine-tuned on the same data first.")
    if config.on_policy is not None:
        found.append(
            f"{percent(config.on_policy.student_fraction)} of the answers it learnt from were its own, judged by the teacher."
        )
    if config.lora is not None:
        found.append(f"Only a LoRA adapter of rank {config.lora.rank} was trained; it is merged into the weights.")
    return found
