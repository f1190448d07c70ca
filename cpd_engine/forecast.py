"""What a plan will cost, from shapes alone and before anything is loaded: parameters, memory, cache, disk, speed, time. Torch-free.

Time carries its error as a factor: a duration of 600 s with a factor of 2 means between 300 s and 1,200 s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cpd_engine import savings
from cpd_engine.config import BY_TEACHER, RunConfig, TinyModel
from cpd_engine.events import Planned
from cpd_engine.plan import plan, schedule
from cpd_engine.shapes import Shape, adapter_parameters

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
# Supervised tokens whose logits exist at a time, and tokens that are scored together.
CHUNK_TOKENS = 256
SCORED_TOKENS = 8192
# Enough samples for the shares of a plan.
_NOMINAL_SAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """`None` where a model's shape is not known before it is fetched. `error_factor` belongs to `duration_s`."""

    teacher_parameters: int | None
    student_parameters: int | None
    tokens: int
    tokens_per_s: float | None
    memory_bytes: int | None
    cache_bytes: int | None
    disk_bytes: int | None
    duration_s: float | None
    error_factor: float
    assumptions: tuple[str, ...]


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
    response_characters: int,
    flops_per_s: float | None = None,
) -> Forecast:
    """The cost of `planned`. `characters`: text of all training rows, `response_characters` of their responses; `flops_per_s`: what
    earlier jobs reached on these workers.

    The time is that of scoring and training; validation and the final evaluation are left out.
    """
    per_row, told = _row_tokens(config, characters / max(planned.samples, 1))
    assumptions = [told, "time of evaluation left out", "memory without the program itself, half a GB on a CPU"]
    if config.on_policy is not None:
        assumptions.append("time of the student's own answers left out, which are taken to be as long as the data's")
    if flops_per_s is None:
        assumptions.append(f"{ASSUMED_FLOPS_PER_S:.0e} operations per second: no finished job to learn from yet")
    shown = Forecast(
        teacher_parameters=teacher.parameters if teacher else None,
        student_parameters=student.parameters if student else None,
        tokens=round(planned.total_iterations * planned.batch_size * per_row),
        tokens_per_s=None,
        memory_bytes=None,
        cache_bytes=None,
        disk_bytes=None,
        duration_s=None,
        error_factor=ASSUMED_ERROR if flops_per_s is None else LEARNED_ERROR,
        assumptions=tuple(assumptions),
    )
    if teacher is None or student is None:
        unknown = "the shape of a model on the hub is known once a worker has fetched it"
        return replace(shown, assumptions=(*assumptions, unknown))
    return _priced(
        shown, config, planned, teacher, student, per_row, response_characters, flops_per_s or ASSUMED_FLOPS_PER_S
    )


def _priced(
    shown: Forecast,
    config: RunConfig,
    planned: Planned,
    teacher: Shape,
    student: Shape,
    per_row: float,
    response_characters: int,
    speed: float,
) -> Forecast:
    """What follows from both shapes, at `speed` operations per second."""
    kept = keeps_states(config)
    cache = _cache(config, planned, teacher, response_characters) if kept else 0
    # On-policy the body stays, for the student's own text; as if it were asked at every visit.
    kept = kept and config.on_policy is None
    adapter = adapter_parameters(student, config.lora) if config.lora else student.parameters
    disk = disk_bytes(
        config,
        teacher_parameters=teacher.parameters,
        student_parameters=student.parameters,
        trained_parameters=adapter,
    )
    return replace(
        shown,
        tokens_per_s=speed / step_flops(teacher, student, kept=kept),
        memory_bytes=_memory(config, teacher, student, adapter, per_row, kept),
        cache_bytes=cache,
        disk_bytes=disk + cache,
        duration_s=_work(config, planned, teacher, student, per_row, kept) / speed,
    )


def keeps_states(config: RunConfig) -> bool:
    """Whether the teacher's states are kept where there is room, as far as the plan tells before the data are known."""
    planned = plan(config, samples=_NOMINAL_SAMPLES).planned
    visits = savings.visits(
        planned.epochs,
        samples=planned.samples,
        distils=config.divergence != "sft",
    )
    visits = config.own_share * visits + savings.twin_visits(planned, config.evaluation.baselines)
    passes = visits + (config.difficulty in BY_TEACHER)
    asked = config.teacher.cache
    always = asked != "auto" or config.teacher.top_k is not None
    return asked != "off" and passes > 0 and (always or passes >= savings.WORTHWHILE)


def step_flops(teacher: Shape, student: Shape, *, kept: bool) -> int:
    """Operations of an optimizer step of the student per token, with the teacher's states kept or made anew."""
    return TRAINING_FLOPS * student.parameters + (0 if kept else FORWARD_FLOPS * teacher.parameters)


def _cache(config: RunConfig, planned: Planned, teacher: Shape, response_characters: int) -> int:
    """What is kept of the teacher at every supervised token, the end token included."""
    per_token = TINY_CHARACTERS_PER_TOKEN if isinstance(config.teacher, TinyModel) else CHARACTERS_PER_TOKEN
    supervised = response_characters / per_token + planned.samples
    record = savings.record_bytes(
        hidden=teacher.hidden,
        dtype_bytes=_frozen_bytes(config),
        top_k=config.teacher.top_k,
        temperatures=len(
            {*schedule(config).temperatures, *(1.0 for twin in config.evaluation.baselines if twin == "kld")}
        ),
    )
    return round(supervised * record)


def _frozen_bytes(config: RunConfig) -> int:
    return 2 if config.precision == "bf16" else 4


def _memory(config: RunConfig, teacher: Shape, student: Shape, adapter: int, per_row: float, kept: bool) -> int:
    """The largest of what asking the teacher, tuning it and training the student take."""
    rows = config.optimizer.micro_batch_size or config.optimizer.batch_size
    tokens = max(float(config.max_length), rows * per_row)
    tokens = min(tokens, config.optimizer.micro_batch_tokens or tokens)
    frozen = _frozen_bytes(config) * teacher.parameters
    head = _frozen_bytes(config) * teacher.vocabulary * teacher.hidden
    trained = 4 * student.parameters + (TRAINED_BYTES if config.lora else TRAINED_BYTES - 4) * adapter
    # Two chunks of logits, and the gradient of the head, which is ready before that of the layers is.
    loss = 2 * 4 * CHUNK_TOKENS * student.vocabulary + 4 * student.vocabulary * student.hidden
    distilling = (head if kept else frozen) + trained + loss + _activations(student, tokens, config)
    asking = frozen + _activations(teacher, SCORED_TOKENS, config) // teacher.layers
    if config.teacher_sft is None:
        return max(distilling, asking)
    tuning = TRAINED_BYTES * teacher.parameters + _activations(teacher, tokens, config)
    return max(distilling, asking, tuning)


def _activations(shape: Shape, tokens: float, config: RunConfig) -> int:
    layers = 2 if config.gradient_checkpointing else shape.layers
    return round(4 * tokens * shape.hidden * ACTIVATIONS_PER_LAYER * layers)


def disk_bytes(config: RunConfig, *, teacher_parameters: int, student_parameters: int, trained_parameters: int) -> int:
    """Sealed weights and training states: weights and two moments each of what is trained, `keep` of them and one being written."""
    trainings = 1 + len(config.evaluation.baselines)
    kept = config.checkpoints.keep + 1
    states = (12 * kept + 4) * trained_parameters * trainings
    tuned = (12 * kept + 4) * teacher_parameters if config.teacher_sft else 0
    # Each training seals a whole model, the student is exported, and one that is made or cut here lies there from the start.
    return states + tuned + 4 * student_parameters * (trainings + 2)


def _work(config: RunConfig, planned: Planned, teacher: Shape, student: Shape, per_row: float, kept: bool) -> float:
    """Operations of scoring and training."""
    visits = planned.total_iterations * planned.batch_size
    twins = [step_flops(teacher, student, kept=kept or twin == "sft") for twin in config.evaluation.baselines]
    work = visits * (step_flops(teacher, student, kept=kept) + sum(twins))
    scored = student.parameters + teacher.parameters * (kept + (config.difficulty in BY_TEACHER))
    work += planned.samples * FORWARD_FLOPS * scored
    if config.teacher_sft is not None:
        work += config.teacher_sft.epochs * planned.samples * TRAINING_FLOPS * teacher.parameters
    return work * per_row
