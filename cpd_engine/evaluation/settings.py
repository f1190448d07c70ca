"""How a suite's rows are put to a model and its answers made: what its task and its spec come to, and the hash of it all. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from cpd_engine.config import CODE_TASKS, MATHS_TASKS, TEXT_TASKS, GenerationSpec, SuiteSpec

Family = Literal["text", "maths", "code"]
# `paper` and `minillm` are templates of instructions (Fig. 5), `maths` of Fig. 7; `code` is what the reader of problems makes (Fig. 8).
Template = Literal["paper", "minillm", "maths", "code"]
# Five sampled answers a row (paper A.4.4).
SEEDS = (10, 20, 30, 40, 50)
SHOTS = {"gsm8k": 8, "math": 4}
# A base model goes on with a problem of its own.
NEXT_PROBLEM = "### Problem:"
# Metrics by family, the one that decides first; the plus tasks have a second one.
METRICS: dict[Family, tuple[str, ...]] = {
    "text": ("rouge_l", "exact_match"),
    "maths": ("accuracy",),
    "code": ("pass_at_1",),
}
PLUS = "pass_at_1_plus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that decides about a suite's answers beside the model, the rows and the seeds. `chat`: the prompt is put as a user's turn."""

    template: Template
    chat: bool
    shots: int
    stops: tuple[str, ...]
    generation: GenerationSpec

    def sha256(self, rows_sha256: str) -> str:
        """A hash of these settings on these rows. The batch size is none of them: it moves no answer but by rounding."""
        given = asdict(self) | {"generation": self.generation.model_dump(exclude={"batch_size", "seed"})}
        return hashlib.sha256(json.dumps([given, rows_sha256], sort_keys=True).encode()).hexdigest()


def family(task: str) -> Family:
    """What kind of grader a task wants."""
    return "text" if task in TEXT_TASKS else "maths" if task in MATHS_TASKS else "code"


def metrics(task: str) -> tuple[str, ...]:
    """The metrics of a task, all in percent and higher better."""
    return (*METRICS[family(task)], PLUS) if task.endswith("_plus") else METRICS[family(task)]


def seeds(spec: SuiteSpec) -> tuple[int, ...]:
    """The seeds of a suite's sampled answers; none where they are greedy."""
    return (spec.seeds or SEEDS) if spec.task in TEXT_TASKS else ()


def settings_of(spec: SuiteSpec, *, chat: bool, batch_size: int) -> Settings:
    """What a spec comes to. `paper`: A.4.4; `minillm`: the code behind the published numbers."""
    if spec.task in TEXT_TASKS:
        preset = spec.settings or "paper"
        tokens, ngram = (256, 6) if preset == "minillm" else (512, 0)
        generation = GenerationSpec(
            temperature=1.0,
            no_repeat_ngram_size=ngram,
            max_new_tokens=spec.max_new_tokens or tokens,
            batch_size=batch_size,
        )
        return Settings(template=preset, chat=chat, shots=0, stops=(), generation=generation)
    greedy = GenerationSpec(max_new_tokens=spec.max_new_tokens or 1024, batch_size=batch_size)
    if spec.task in CODE_TASKS:
        return Settings(template="code", chat=chat, shots=0, stops=(), generation=greedy)
    shots = SHOTS[spec.task] if spec.shots is None else spec.shots
    return Settings(template="maths", chat=chat, shots=shots, stops=(NEXT_PROBLEM,), generation=greedy)
