"""The model card: what a student is, how it was made, how good it is and what not to expect of it, in words a person can read.

Markdown with the YAML front matter of model hubs. Pure: no clock, no path, so the same run gives the same card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from cpd_engine import descent
from cpd_engine.config import (
    ConstantsSpec,
    HubModel,
    LocalModel,
    LoraSpec,
    RunConfig,
    StudentFromTeacher,
    StudentRef,
    TeacherRef,
    TinyModel,
)
from cpd_engine.events import Planned, Reported, SealedFile
from cpd_engine.lineage import Lineage
from cpd_engine.quoting import code, plain
from cpd_engine.scoreboard import judged, scores, suites


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the card tells. `config` is resolved; `parameters` are the student's, the teacher's those of the one that taught."""

    config: RunConfig
    reported: Reported
    planned: Planned
    parameters: int
    teacher_parameters: int
    lineage: Lineage


def render_card(card: Card, weights: Sequence[SealedFile]) -> str:
    """The whole README.md. `weights`: the files of weights that lie beside it."""
    sections = (
        _front_matter(card),
        _introduction(card),
        scores(card.reported),
        *suites(card.reported.suites),
        *judged(card.reported.judged),
        _use(card.config),
        _method(card),
        descent.rows(card.config, card.lineage),
        descent.licences(card.config, card.lineage),
        descent.making(card.lineage, weights),
        _caveats(card),
    )
    return "\n\n".join(sections) + "\n"


def _front_matter(card: Card) -> str:
    config = card.config
    fields: dict[str, object] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["distillation", "cpd"],
    }
    if models := [ref.hub for ref in (config.student, config.teacher) if isinstance(ref, HubModel)]:
        fields["base_model"] = models[0]
    if config.dataset.hub is not None:
        fields["datasets"] = [config.dataset.hub]
    return f"---\n{yaml.safe_dump(fields, sort_keys=False).strip()}\n---"


def _introduction(card: Card) -> str:
    config = card.config
    teacher, student = card.lineage.teacher, card.lineage.student
    smaller = card.teacher_parameters / card.parameters
    return (
        f"# {plain(config.name or 'Distilled student')}\n\n"
        f"A causal language model of {card.parameters:,} parameters, distilled from a teacher of {card.teacher_parameters:,} "
        f"({smaller:.1f} times as many) by calibrated progressive distillation (CPD).\n\n"
        f"- Teacher: {_model(config.teacher, teacher.revision)}"
        f"{', fine-tuned on the same data first' if config.teacher_sft else ''}\n"
        f"- Student before training: {_model(config.student, student.revision)}"
    )


def _model(ref: TeacherRef | StudentRef, commit: str | None) -> str:
    match ref:
        case HubModel():
            return f"[{ref.hub}](https://huggingface.co/{ref.hub}) at revision `{commit or ref.revision}`"
        case LocalModel():
            return f"the local model {code(ref.local)}"
        case TinyModel():
            return f"a {ref.tiny} decoder of {ref.layers} layers and width {ref.hidden} with fresh weights (seed {ref.seed})"
        case StudentFromTeacher():
            return f"the teacher without its {ref.drop_layers} layers of lowest block influence"


def _use(config: RunConfig) -> str:
    if config.template == "chat":
        prompt = (
            'question = [{"role": "user", "content": "..."}]\n'
            'inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)'
        )
    else:
        prompt = (
            "prompt = (\n"
            '    "Below is an instruction that describes a task.\\n"\n'
            '    "Write a response that appropriately completes the request.\\n\\n"\n'
            '    "### Instruction:\\n{instruction}\\n\\n### Input:\\n{input}\\n\\n### Response:\\n"\n'
            ")\n"
            'inputs = tokenizer(prompt.format(instruction="...", input=""), return_tensors="pt")'
        )
    return (
        "## Use\n\nGreedy decoding gave the scores above; the settings are in `generation_config.json`."
        if config.evaluation.generation.temperature == 0
        else "## Use\n\nThe sampling settings behind the scores above are in `generation_config.json`."
    ) + (
        "\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n'
        'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")\n'
        f"{prompt}\n"
        "output = model.generate(**inputs)\n"
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))\n```'
    )


def _constants(spec: ConstantsSpec | None) -> str:
    given = {} if spec is None else spec.given()
    return f" ({', '.join(f'{name} {value:g}' for name, value in given.items())})" if given else ""


def _mixed(divergence: str | None, first: float, last: float) -> list[str]:
    """The line about t, where there is a mixed target: `taid` counts the teacher's share of it."""
    whose = {"pmtd": "student", "taid": "teacher"}.get(divergence or "")
    if whose is None:
        return []
    return [f"- Weight t of the {whose} in the mixed target: {first:g} in the first epoch, {last:g} in the last"]


def _method(card: Card) -> str:
    config, epochs = card.config, card.planned.epochs
    first, last = epochs[0], epochs[-1]
    lines = [
        (
            f"- Loss per supervised token: α·CE + (1 − α)·τ²·D with D = `{config.divergence}`{_constants(config.constants)}, "
            f"α from {first.alpha:g} to {last.alpha:g}"
        ),
        *_mixed(config.divergence, first.mixing, last.mixing),
        f"- Temperature τ: {first.temperature:g} in the first epoch, {last.temperature:g} in the last",
        (
            f"- Curriculum `{config.curriculum}` by `{config.difficulty}`: {first.subset_size:,} of {card.planned.samples:,} samples "
            f"in the first of {len(epochs)} epochs, {last.subset_size:,} in the last, each subset {config.subset_repeat} times"
        ),
        (
            f"- {card.planned.total_iterations:,} optimizer steps of {card.planned.batch_size} samples; AdamW, learning rate "
            f"{config.optimizer.learning_rate:g}, {config.optimizer.schedule} schedule{_lora(config.lora)}"
        ),
        f"- Seed {config.seed}; "
        + ", ".join(f"{name} {version}" for name, version in sorted(card.lineage.libraries.items())),
    ]
    picture = "![Difficulty profile](profile.png)"
    return "## Method\n\n" + "\n".join(lines) + f"\n\n{picture}\n\nThe whole specification is in `spec.json`."


def _lora(spec: LoraSpec | None) -> str:
    return "; all weights trained" if spec is None else f"; LoRA of rank {spec.rank} on every linear layer, merged here"


def _caveats(card: Card) -> str:
    lines = [
        "- The scores hold for this test split and these generation settings; one seed was run, so small differences may be chance.",
        "- The student learned from its teacher's outputs and inherits its errors and biases. It was not tested for safety.",
    ]
    if card.config.dataset.synthetic is not None:
        lines.insert(0, "- It solves the small tasks it was trained on and nothing else: it is no general assistant.")
    return "## Limits\n\n" + "\n".join(lines)
