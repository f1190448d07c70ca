"""What a plan will cost, from shapes alone and before anything is loaded: parameters, memory, disk, time. Torch-free.

Time carries its error as a factor: a duration of 600 s with a factor of 2 means between 300 s and 1,200 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpd_engine.config import RunConfig, TinyModel
from cpd_engine.events import Planned

# Bytes a parameter takes while it is trained in fp32: weight, gradient and AdamW's two moments.
TRAINED_BYTES = 16
# Floating-point operations per parameter and token: forward 2, backward 4.
FORWARD_FLOPS = 2
TRAINING_FLOPS = 6
# Without a finished job to learn from. Two CPU cores reached 3.3e10 on the tiny models of recipes/demo.yaml (one thread) and 9.6e10
# on recipes/smollm2.yaml; a GPU reaches far more, so the error is wide.
ASSUMED_FLOPS_PER_S = 2e10
ASSUMED_ERROR = 10.0
# At the speeds that the two reached themselves, the forecast came out at 0.93 and 1.35 of the time they took. Chosen to cover both; the
# assumed speed gave 1.5 and 6.5 times.
LEARNED_ERROR = 1.5
# Text that no tokenizer has read yet: English by a large vocabulary, and by one trained on the data (2.3 on the demo's rows).
CHARACTERS_PER_TOKEN = 4.0
TINY_CHARACTERS_PER_TOKEN = 2.3
# What a template adds to a row, EOS included: the paper's 166 characters; a large model's chat template, often with a system prompt.
PAPER_CHARACTERS = 166
CHAT_TOKENS = 20
TINY_CHAT_TOKENS = 3
# Activations kept per layer and token for backward, in multiples of the hidden size (attention, MLP, norms).
ACTIVATIONS_PER_LAYER = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the cost of a decoder depends on."""

    parameters: int
    layer_parameters: int
    hidden: int
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """`None` where a model's shape is not known before it is fetched. `error_factor` belongs to `duration_s`."""

    teacher_parameters: int | None
    student_parameters: int | None
    tokens: int
    memory_bytes: int | None
    disk_bytes: int | None
    duration_s: float | None
    error_factor: float
    assumptions: tuple[str, ...]


def tiny_shape(ref: TinyModel, positions: int) -> Shape:
    """The shape of a model that `models.tiny` will build, `positions` long, if the text fills its vocabulary."""
    told: dict[str, Any] = {"vocab_size": ref.vocabulary, "model_type": ref.tiny}
    if ref.tiny == "gpt2":
        told |= {"n_embd": ref.hidden, "n_layer": ref.layers, "n_positions": positions}
    else:
        told |= {"hidden_size": ref.hidden, "num_hidden_layers": ref.layers, "num_attention_heads": ref.heads}
        told |= {"intermediate_size": 16 * -(-ref.hidden * 8 // 48), "tie_word_embeddings": True}
    shape = shape_of(told)
    if shape is None:
        raise ValueError(f"a tiny {ref.tiny} has no known shape")
    return shape


def shape_of(model_config: Mapping[str, Any]) -> Shape | None:
    """The shape that a model's config.json tells (GPT-2's names or Llama's); None where it tells too little."""
    hidden = model_config.get("hidden_size", model_config.get("n_embd"))
    layers = model_config.get("num_hidden_layers", model_config.get("n_layer"))
    vocabulary = model_config.get("vocab_size")
    if not (isinstance(hidden, int) and isinstance(layers, int) and isinstance(vocabulary, int)):
        return None
    if "n_embd" in model_config:
        per_layer = 12 * hidden**2 + 13 * hidden
        embedding = (vocabulary + int(model_config.get("n_positions", 0))) * hidden + 2 * hidden
    else:
        per_layer = _llama_layer(model_config, hidden)
        tied = bool(model_config.get("tie_word_embeddings", False))
        embedding = vocabulary * hidden * (1 if tied else 2) + hidden
    return Shape(parameters=layers * per_layer + embedding, layer_parameters=per_layer, hidden=hidden, layers=layers)


def _llama_layer(model_config: Mapping[str, Any], hidden: int) -> int:
    heads = int(model_config.get("num_attention_heads", 1))
    groups = int(model_config.get("num_key_value_heads") or heads)
    head = int(model_config.get("head_dim") or hidden // heads)
    inner = int(model_config.get("intermediate_size", 4 * hidden))
    attention = 2 * hidden * heads * head + 2 * hidden * groups * head
    bias = (heads + 2 * groups) * head if model_config.get("model_type") == "qwen2" else 0
    return attention + bias + 3 * hidden * inner + 2 * hidden


def without_layers(shape: Shape, dropped: int) -> Shape:
    """The shape that remains when `dropped` layers are taken out."""
    return Shape(
        parameters=shape.parameters - dropped * shape.layer_parameters,
        layer_parameters=shape.layer_parameters,
        hidden=shape.hidden,
        layers=shape.layers - dropped,
    )


def _row_tokens(config: RunConfig, characters_per_row: float) -> tuple[float, str]:
    """Tokens of an average row as the models will see it, and the assumption in words."""
    tiny = isinstance(config.teacher, TinyModel)
    per_token = TINY_CHARACTERS_PER_TOKEN if tiny else CHARACTERS_PER_TOKEN
    chat = TINY_CHAT_TOKENS if tiny else CHAT_TOKENS
    added = PAPER_CHARACTERS / per_token if config.template == "paper" else chat
    told = f"{per_token:g} characters per token, {added:.0f} tokens of template"
    return min(characters_per_row / per_token + added, float(config.max_length)), told


def forecast(
    config: RunConfig,
    planned: Planned,
    *,
    teacher: Shape | None,
    student: Shape | None,
    characters: int,
    flops_per_s: float | None = None,
) -> Forecast:
    """The cost of `planned`. `characters`: text of all training rows; `flops_per_s`: what earlier jobs reached on these workers.

    The time is that of scoring and training; validation and the final evaluation are left out.
    """
    per_row, told = _row_tokens(config, characters / max(planned.samples, 1))
    assumptions = [told, "time of evaluation left out"]
    if flops_per_s is None:
        assumptions.append(f"{ASSUMED_FLOPS_PER_S:.0e} operations per second: no finished job to learn from yet")
    if teacher is None or student is None:
        assumptions.append("the shape of a model on the hub is known once a worker has fetched it")
    visits = planned.total_iterations * planned.batch_size
    return Forecast(
        teacher_parameters=teacher.parameters if teacher else None,
        student_parameters=student.parameters if student else None,
        tokens=round(visits * per_row),
        memory_bytes=_memory(config, teacher, student) if teacher and student else None,
        disk_bytes=_disk(config, teacher, student) if teacher and student else None,
        duration_s=_duration(config, planned, teacher, student, per_row, flops_per_s) if teacher and student else None,
        error_factor=ASSUMED_ERROR if flops_per_s is None else LEARNED_ERROR,
        assumptions=tuple(assumptions),
    )


def _memory(config: RunConfig, teacher: Shape, student: Shape) -> int:
    """Peak of the larger of teacher fine-tuning and distillation."""
    rows = config.optimizer.micro_batch_size or config.optimizer.batch_size
    tokens = rows * config.max_length
    trained = 4 * student.parameters if config.lora else TRAINED_BYTES * student.parameters
    distilling = 4 * teacher.parameters + trained + _activations(student, tokens, config)
    if config.teacher_sft is None:
        return distilling
    return max(distilling, TRAINED_BYTES * teacher.parameters + _activations(teacher, tokens, config))


def _activations(shape: Shape, tokens: int, config: RunConfig) -> int:
    layers = 2 if config.gradient_checkpointing else shape.layers
    return 4 * tokens * shape.hidden * ACTIVATIONS_PER_LAYER * layers


def _disk(config: RunConfig, teacher: Shape, student: Shape) -> int:
    """Sealed weights and training states: weights and two moments each, `keep` of them and one being written."""
    twins = 1 + len(config.evaluation.baselines)
    states = 12 * student.parameters * (config.checkpoints.keep + 1) * twins
    tuned = (12 * (config.checkpoints.keep + 1) + 4) * teacher.parameters if config.teacher_sft else 0
    return states + tuned + 4 * student.parameters * (2 + 2 * twins)


def _duration(
    config: RunConfig, planned: Planned, teacher: Shape, student: Shape, per_row: float, flops_per_s: float | None
) -> float:
    visits = planned.total_iterations * planned.batch_size
    twins = len(config.evaluation.baselines)
    work = visits * per_row * (FORWARD_FLOPS * teacher.parameters + TRAINING_FLOPS * student.parameters * (1 + twins))
    work += planned.samples * per_row * FORWARD_FLOPS * (student.parameters + teacher.parameters)
    if config.teacher_sft is not None:
        work += config.teacher_sft.epochs * planned.samples * per_row * TRAINING_FLOPS * teacher.parameters
    return work / (flops_per_s or ASSUMED_FLOPS_PER_S)
