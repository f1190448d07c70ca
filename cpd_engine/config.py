"""What a run is asked to do: frozen, strict, torch-free. The job spec of the REST API embeds `RunConfig` as it is.

Knobs that a preset decides are `None` until `RunConfig.resolved()` fills them in; an explicit value always wins.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from cpd_engine.errors import FieldRefused
from cpd_engine.presets import PRESETS

Divergence = Literal["pmtd", "kld", "rkl", "jsd", "tvd", "skl", "srkl", "bdl", "abkd", "taid", "sft"]
Curriculum = Literal["calibrated", "calibrated_affine", "none", "linear", "cosine", "baby_step", "dakd"]
Difficulty = Literal["ce_mean", "ce_sum", "teacher_ce", "dds", "entropy", "rouge_l", "rank_fusion", "answer", "tests"]
# What each of them measures, for the axis of a figure.
MEASURES: dict[str, str] = {
    "ce_mean": "student's CE, nats per token",
    "ce_sum": "student's CE, nats per response",
    "teacher_ce": "teacher's CE, nats per token",
    "entropy": "student's entropy, nats per token",
    "dds": "student's CE over the teacher's",
    "rouge_l": "1 − ROUGE-L of the student's answer",
    "rank_fusion": "fused rank of ROUGE-L and CE",
    "answer": "wrong final answers of the student (0 or 1)",
    "tests": "share of tests that the student's answer fails",
}
# The difficulties that a pass of the teacher is needed for.
BY_TEACHER = frozenset({"teacher_ce", "dds"})
MixingKind = Literal["linear", "open", "cosine", "calibrated", "fixed", "step", "adaptive"]
# Those for which the student has to answer every training prompt.
BY_ANSWERS = frozenset({"rouge_l", "rank_fusion", "answer", "tests"})
# Of these, those that know right and wrong only, so that the student's cross-entropy orders what they leave equal.
BY_GRADES = frozenset({"answer", "tests"})
# The constants of each divergence that has any; at a mixing weight of 0 or 1 `jsd`, `skl` and `srkl` are identically 0 or another one.
CONSTANTS: dict[str, tuple[str, ...]] = {
    "jsd": ("beta",),
    "skl": ("beta",),
    "srkl": ("beta",),
    "bdl": ("lam",),
    "abkd": ("alpha", "beta"),
}
# How near λ may come to ½, where `bdl` is identically 0.
BDL_DEAD_ZONE = 1e-3
Preset = Literal[
    "recommended",
    "cpd",
    "paper",
    "kld",
    "rkl",
    "tvd",
    "jsd",
    "skl",
    "srkl",
    "abkd",
    "taid",
    "kld_pocl",
    "srkl_pocl",
    "tvd_pocl",
    "dakd",
    "gkd",
    "cpd_on_policy",
    "sft",
]
Metric = Literal["rouge_l", "exact_match", "ce"]
# The students that are trained beside the distilled one: by cross-entropy alone, and by plain KL(teacher || student).
Baseline = Literal["sft", "kld"]
# Whose answers a judge compares the distilled student's with.
Opponent = Literal["teacher", "untouched", Baseline]

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_LOCAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}){0,3}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")

PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Frozen(BaseModel):
    """Base of every wire type of the engine: immutable, no unknown field, no coercion, no NaN. A field's docstring is its description."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


def _told(pattern: re.Pattern[str]) -> Any:
    """What `_matching` allows, in the JSON schema of a field; there the message would not say what is wrong."""
    return Field(json_schema_extra={"pattern": rf"^(?!.*\.\.){pattern.pattern}$"})


HubId = Annotated[str, _told(_HUB_ID)]
LocalName = Annotated[str, _told(_LOCAL)]
Revision = Annotated[str, _told(_REVISION)]


def _matching(pattern: re.Pattern[str], what: str, value: str) -> str:
    if pattern.fullmatch(value) is None or ".." in value:
        raise ValueError(f"not {what}: letters, digits, '.', '_', '-' only")
    return value


def _field_matching(field: str, pattern: re.Pattern[str], what: str, value: str) -> None:
    try:
        _matching(pattern, what, value)
    except ValueError as error:
        raise FieldRefused(field, str(error)) from None


class HubModel(Frozen):
    """A model on the operator's hub. A branch or tag is pinned to its commit on first use, and warned of."""

    hub: HubId
    """Its id, such as `org/name`."""
    revision: Revision = "main"
    """A commit, branch or tag; a commit alone names the same weights for good."""

    @field_validator("hub")
    @classmethod
    def _id(cls, value: str) -> str:
        return _matching(_HUB_ID, "a hub id such as org/name", value)

    @field_validator("revision")
    @classmethod
    def _rev(cls, value: str) -> str:
        return _matching(_REVISION, "a revision", value)


class LocalModel(Frozen):
    """A model directory by its name under one of the operator's model folders."""

    local: LocalName
    """The folder's name, up to four parts deep (`org/name`); it holds safetensors, `config.json` and a tokenizer."""

    @field_validator("local")
    @classmethod
    def _name(cls, value: str) -> str:
        return _matching(_LOCAL, "the name of a folder under the operator's model folders", value)


class TinyModel(Frozen):
    """A small decoder with fresh seeded weights and a tokenizer trained on the job's own training data."""

    tiny: Literal["gpt2", "llama", "qwen2"]
    """Its architecture."""
    layers: Annotated[int, Field(ge=1, le=48)] = 4
    """Decoder layers."""
    hidden: Annotated[int, Field(ge=16, le=4096, multiple_of=16)] = 128
    """Width of the hidden states."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Attention heads; they divide `hidden`."""
    vocabulary: Annotated[int, Field(ge=300, le=65536)] = 1024
    """Tokens of the tokenizer, at most: few rows yield fewer."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of the fresh weights."""

    @model_validator(mode="after")
    def _heads_divide(self) -> TinyModel:
        if self.hidden % self.heads:
            raise FieldRefused("heads", "hidden must be a multiple of it")
        return self


class StudentFromTeacher(Frozen):
    """The teacher (as it is after `teacher_sft`) without the layers of lowest block influence, 1 − cos(layer input, output)."""

    source: Annotated[Literal["teacher"], Field(alias="from")]
    """`teacher`; what is written as `from`."""
    drop_layers: Annotated[int, Field(ge=1, le=512)]
    """How many layers go. At least one is left."""

    # The rest is inherited.
    model_config = ConfigDict(serialize_by_alias=True)


CacheMode = Literal["auto", "memory", "disk", "off"]


class TeacherOnce(Frozen):
    """How the teacher's states are kept, so that its body runs once per sample and then leaves memory."""

    cache: CacheMode = "auto"
    """Where the last hidden states at supervised positions are kept, exact at every τ. `auto` takes the disk, where other jobs on the same
    teacher and data find them, else memory, else `off`, by what there is room for and whether it saves anything."""
    top_k: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Keep only the k largest logits of each position, log Z at every scheduled τ and one bucket for the rest (M27): far smaller, and
    approximate. None: the whole distribution."""

    @model_validator(mode="after")
    def _top_k_is_kept(self) -> TeacherOnce:
        if self.top_k is not None and self.cache == "off":
            raise FieldRefused(
                "top_k", "it tells what the cache keeps: take cache 'auto', 'memory' or 'disk', or leave top_k out"
            )
        return self


class HubTeacher(HubModel, TeacherOnce):
    """A teacher on the operator's hub."""


class LocalTeacher(LocalModel, TeacherOnce):
    """A teacher under one of the operator's model folders."""


class TinyTeacher(TinyModel, TeacherOnce):
    """A small teacher with fresh weights."""


def _which_model(value: Any) -> str | None:
    """The key that tells the kinds of model reference apart, so that an error names one kind only."""
    kinds = {HubModel: "hub", LocalModel: "local", TinyModel: "tiny", StudentFromTeacher: "from"}
    if isinstance(value, BaseModel):
        return next((tag for kind, tag in kinds.items() if isinstance(value, kind)), None)
    keys = value if isinstance(value, dict) else ()
    return next((tag for tag in ("hub", "local", "tiny", "from") if tag in keys), None)


_WHICH = Discriminator(
    _which_model,
    custom_error_type="model_reference",
    custom_error_message="Name a model as {hub, revision}, {local}, {tiny, …} or, for the student, {from: teacher, drop_layers}",
)
TeacherRef = Annotated[
    Annotated[HubTeacher, Tag("hub")] | Annotated[LocalTeacher, Tag("local")] | Annotated[TinyTeacher, Tag("tiny")],
    _WHICH,
]
StudentRef = Annotated[
    Annotated[HubModel, Tag("hub")]
    | Annotated[LocalModel, Tag("local")]
    | Annotated[TinyModel, Tag("tiny")]
    | Annotated[StudentFromTeacher, Tag("from")],
    _WHICH,
]


class SyntheticData(Frozen):
    """The project's own seeded instruction tasks; the test split is disjoint in values."""

    rows: Annotated[int, Field(ge=100, le=1_000_000)] = 4800
    """How many in all, before they are split."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of the values and their order."""


License = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]


class DatasetSpec(Frozen):
    """Where the rows come from: exactly one of `train` (an uploaded data set or, on the command line, a file), `hub` or `synthetic`.

    A missing validation or test split is cut from the training rows by a seeded hash of their content.
    """

    train: str | None = None
    """Rows to learn from: an uploaded data set (`ds_…`) or, on the command line, a file."""
    validation: str | None = None
    """Rows by which the best weights are chosen; goes with `train`. None: cut from the training rows."""
    test: str | None = None
    """Rows that the scores are of; goes with `train`. None: cut from the training rows."""
    hub: HubId | None = None
    """A data set of the operator's hub, such as `org/name`, in place of `train`."""
    revision: Revision = "main"
    """Commit, branch or tag of `hub`."""
    synthetic: SyntheticData | None = None
    """The project's own tasks in place of `train`."""
    license: License | None = None
    """Of uploaded rows, in the words of whoever gives them; it goes into the model card."""
    validation_fraction: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """The share of prompts that is cut off for validation where none is given."""
    test_fraction: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """Likewise for the test."""
    max_rows: PositiveInt | None = None
    """At most so many training rows, chosen by a seeded hash of their content. None: all."""
    max_bad_row_fraction: Fraction = 0.01
    """The share of bad rows that is left out and counted; with more the job fails with `invalid_dataset`."""

    @model_validator(mode="after")
    def _one_source(self) -> DatasetSpec:
        sources = [self.train is not None, self.hub is not None, self.synthetic is not None]
        if sum(sources) != 1:
            raise ValueError("name exactly one of train, hub and synthetic")
        if self.train is None and (self.validation is not None or self.test is not None):
            field = "test" if self.validation is None else "validation"
            raise FieldRefused(field, "validation and test go with train")
        if self.train is None and self.license is not None:
            raise FieldRefused("license", "it goes with train; a hub states that of its own data sets")
        if self.hub is not None:
            _field_matching("hub", _HUB_ID, "a hub id such as org/name", self.hub)
            _field_matching("revision", _REVISION, "a revision", self.revision)
        return self


class MixingSpec(Frozen):
    """Schedule of t, the weight of the student in the mixed target (paper 3.3)."""

    kind: MixingKind = "open"
    """t in epoch e of n: `linear` e/n, `open` (e−1)/n, `cosine` (1 − cos(πe/n))/2, `calibrated` L̄(k_e)/L̄(N), `step` s/S by optimizer steps,
    `fixed` is `value`, `adaptive` follows the loss (M11, M11a)."""
    value: Fraction = 0.5
    """t of `fixed`: 0 is the teacher alone."""
    end: Fraction = 1.0
    """Scales every kind but `fixed`: the last t is `end` times what it would be."""


class BudgetSpec(Frozen):
    """How long the student trains, whatever its curriculum: so many optimizer steps, or supervised tokens, in all.

    Exactly one of `amount` and `epochs` is given. The epochs of the curriculum share it in proportion to what they would take without;
    of tokens it is met as nearly as whole steps allow.
    """

    unit: Literal["steps", "tokens"] = "steps"
    """Optimizer steps, or supervised tokens."""
    amount: Annotated[int, Field(ge=1, le=2**53)] | None = None
    """So many in all."""
    epochs: Annotated[float, Field(gt=0.0, le=1000.0)] | None = None
    """As many as that many passes over all the samples take: E·⌈N/B⌉ steps."""

    @model_validator(mode="after")
    def _one_measure(self) -> BudgetSpec:
        if (self.amount is None) == (self.epochs is None):
            raise ValueError("name exactly one of amount and epochs")
        return self


class PolicySpec(Frozen):
    """Whose answers the student learns from: the data's, or in part its own, as it then is (GKD)."""

    kind: Literal["off", "on"]
    """`off`: the data's responses alone; `on`: in part the student's own."""
    student_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """The share f of visits of samples that the student answers: visit k is its own where ⌊f·k⌋ > ⌊f·(k−1)⌋ (M28)."""
    refresh: Literal["epoch", "step"] = "epoch"
    """When it answers: an epoch's prompts as the epoch begins, or `batch_size` prompts at a time as their turn comes (M30, M31)."""
    buffer: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """With `refresh: step`: how many of the newest answers a step draws from. None: four times `batch_size`."""
    temperature: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """Of its sampling; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """It samples among the likeliest tokens that make up this share."""
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 128
    """Of an answer, which never makes a sample longer than `max_length`."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Prompts that are answered together."""

    @model_validator(mode="after")
    def _has_effect(self) -> PolicySpec:
        idle = PolicySpec.model_construct(kind="off")
        if self.kind == "off" and (named := [name for name, value in self if value != getattr(idle, name)]):
            raise FieldRefused(named[0], "it has no effect where kind is 'off'; take kind 'on' or leave it out")
        if self.kind == "on" and self.refresh == "epoch" and self.buffer is not None:
            raise FieldRefused(
                "buffer", "it has no effect with refresh 'epoch', which keeps an epoch's answers; take refresh 'step'"
            )
        return self


class ConstantsSpec(Frozen):
    """A divergence's own constants (paper A.4.5); None: the paper's value. One that the divergence does not have is refused."""

    alpha: Annotated[float, Field(ge=-10.0, le=10.0)] | None = None
    """α of `abkd` (M21)."""
    beta: Annotated[float, Field(ge=-10.0, le=10.0)] | None = None
    """β of `jsd`, `skl`, `srkl` (between 0 and 1) and `abkd` (M18, M20, M21)."""
    lam: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """λ of `bdl` (M23), which is identically 0 at ½."""

    def given(self) -> dict[str, float]:
        """Those that were named."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class OptimizerSpec(Frozen):
    """AdamW and its learning-rate schedule over the planned iterations."""

    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 5e-4
    """After the warm-up."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How it falls over the planned steps: by cosine, linearly, or not (M13)."""
    warmup_fraction: Annotated[float, Field(ge=0.0, le=0.9)] = 0.03
    """The share of steps over which it rises linearly."""
    final_fraction: Fraction = 0.0
    """The share of `learning_rate` that it falls to; no effect with `constant`."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """AdamW's."""
    beta_1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of the first moment."""
    beta_2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Decay of the second moment."""
    eps: Annotated[float, Field(gt=0.0, le=1e-2)] = 1e-8
    """Added to the root of the second moment."""
    max_grad_norm: Annotated[float, Field(gt=0.0, le=1e6)] | None = 1.0
    """Gradients of a larger norm are scaled down to it. None: never."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 8
    """Samples of an optimizer step, over all processes; the loss is divided once by their supervised tokens (M15)."""
    micro_batch_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """At most so many samples go through the model together. None: as many as memory is sure to hold. It changes nothing but rounding
    and what dropout draws; running out of memory halves it and goes on."""
    micro_batch_tokens: Annotated[int, Field(ge=16, le=2**24)] | None = None
    """At most so many tokens together, padding included; likewise."""


class LoraSpec(Frozen):
    """LoRA on every linear layer of attention and MLP (paper A.4.3)."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """r of W + (alpha/r)·BA."""
    alpha: Annotated[float, Field(gt=0.0, le=4096.0)] = 32.0
    """The scale's numerator; LoRA's own, not the loss's α."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Of what goes into A, in training."""


class TeacherSft(Frozen):
    """Fine-tune the teacher on the same data first (paper A.4.3)."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    """Passes over the training rows."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """Its own, with defaults of its own."""


class GenerationSpec(Frozen):
    """How answers are generated for scoring."""

    temperature: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Sampling among the likeliest tokens that make up this share; 1: all."""
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Sampling among so many of the likeliest tokens; 0: all."""
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=64)] = 0
    """No n-gram of this length occurs twice in an answer; 0: any may."""
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 128
    """Where an answer is cut."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Prompts that are answered together; it moves no answer but by rounding."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 10
    """Of sampling; each row draws from (seed, its id)."""


TextTask = Literal["dolly", "self_instruct", "vicuna", "sni", "unni", "custom"]
MathsTask = Literal["gsm8k", "math"]
CodeTask = Literal["humaneval", "humaneval_plus", "mbpp", "mbpp_plus"]
SuiteTask = Literal[TextTask, MathsTask, CodeTask]
TEXT_TASKS: tuple[TextTask, ...] = get_args(TextTask)
MATHS_TASKS: tuple[MathsTask, ...] = get_args(MathsTask)
CODE_TASKS: tuple[CodeTask, ...] = get_args(CodeTask)
SuiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class SuiteSpec(Frozen):
    """A public benchmark, or rows of one's own, that every model of the run is scored on (paper A.4.4).

    The rows come from `data` or `hub`; nothing else is ever fetched. Of text tasks ROUGE-L and exact match are the mean over `seeds` of
    sampled answers; maths and code are greedy.
    """

    task: SuiteTask
    """What is asked and how it is graded (docs/method.md, section 8)."""
    name: SuiteName | None = None
    """What it is called in tables and in `samples?suite=`. None: its task."""
    data: str | None = None
    """An uploaded data set or, on the command line, a file of rows; or else `hub`."""
    hub: HubId | None = None
    """A data set of the operator's hub."""
    revision: Revision = "main"
    """Commit, branch or tag of `hub`."""
    subset: LocalName | None = None
    """A folder of the hub's repository, for one that holds several data sets."""
    rows: PositiveInt | None = None
    """At most so many. None: all."""
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=32)] | None = None
    """Of text tasks: a score is the mean over these. None: 10, 20, 30, 40, 50."""
    settings: Literal["minillm", "paper"] | None = None
    """Of text tasks: template and limits of the paper, or those of the code behind the published numbers. None: `paper`."""
    examples: str | None = None
    """Of maths tasks: a data set or file of worked examples. None: the project's own."""
    shots: Annotated[int, Field(ge=0, le=64)] | None = None
    """Of maths tasks: how many of them go before a problem. None: 8 of `gsm8k`, 4 of `math`."""
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Where an answer is cut. None: 512 of text (256 by `minillm`), 1024 of maths and code."""

    @property
    def title(self) -> str:
        """What the suite is called everywhere: its name or its task."""
        return self.name or self.task

    @property
    def files(self) -> dict[str, str]:
        """The data sets or files that it names, by field."""
        named = {"data": self.data, "examples": self.examples}
        return {field: name for field, name in named.items() if name is not None}

    @model_validator(mode="after")
    def _one_source(self) -> SuiteSpec:
        if (self.data is None) == (self.hub is None):
            raise ValueError("name exactly one of data and hub")
        if self.hub is not None:
            _field_matching("hub", _HUB_ID, "a hub id such as org/name", self.hub)
            _field_matching("revision", _REVISION, "a revision", self.revision)
        if self.subset is not None:
            if self.hub is None:
                raise FieldRefused("subset", "it goes with hub")
            _field_matching("subset", _LOCAL, "a folder of the repository", self.subset)
        return self

    @model_validator(mode="after")
    def _fields_belong(self) -> SuiteSpec:
        if self.task not in TEXT_TASKS:
            for field in ("seeds", "settings"):
                if getattr(self, field) is not None:
                    raise FieldRefused(
                        field, f"{self.task} is answered greedily under settings of its own; leave it out"
                    )
        if self.task not in MATHS_TASKS:
            for field in ("shots", "examples"):
                if getattr(self, field) is not None:
                    raise FieldRefused(field, f"{self.task} has no worked examples; leave it out")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            twice = next(seed for seed in self.seeds if self.seeds.count(seed) > 1)
            raise FieldRefused("seeds", f"{twice} is named twice, which would count its answers twice")
        return self


Suites = Annotated[tuple[SuiteSpec, ...], Field(strict=False, max_length=16)]


def _named_apart(suites: tuple[SuiteSpec, ...]) -> None:
    titles = [suite.title for suite in suites]
    if twice := next((title for title in titles if titles.count(title) > 1), None):
        raise FieldRefused("suites", f"two are called {twice!r}; give each a name of its own")


class JudgeSpec(Frozen):
    """Whose answers the operator's judge compares the distilled student's with, pair by pair in both orders (paper A.4.4, Fig. 6).

    Of sampled answers those of the suite's first seed are compared.
    """

    against: Annotated[tuple[Opponent, ...], Field(strict=False, min_length=1, max_length=4)]
    """The models whose answers it sees beside the distilled student's; a twin has to be one of `baselines`."""
    suites: Annotated[tuple[SuiteName, ...], Field(strict=False, min_length=1, max_length=16)] | None = None
    """Titles of text suites. None: every one of the run."""

    @model_validator(mode="after")
    def _each_once(self) -> JudgeSpec:
        for field, names in (("against", self.against), ("suites", self.suites or ())):
            if len(set(names)) < len(names):
                raise FieldRefused(field, "name each once; a second time would be paid for and tell nothing new")
        return self


class EvaluationSpec(Frozen):
    """What is scored, on how many rows, which twins are trained beside the student, and what a judge is asked."""

    validation_metric: Metric = "rouge_l"
    """What chooses the best weights: `rouge_l` or `exact_match` of answers (more is better), or `ce` (less is)."""
    validation_rows: Annotated[int, Field(ge=0, le=1_000_000)] = 200
    """Rows of the validation split that are looked at, at most; 0: none, and the last weights are the student."""
    every_epochs: PositiveInt = 1
    """Validate after every so many epochs, and after the last."""
    pinned: Annotated[int, Field(ge=0, le=16)] | None = None
    """Validation rows, the first ones, whose answers every validation tells, so that one sees them change. None: 4 where answers are made
    anyway, 0 with `ce`."""
    test_rows: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Rows of the test split that are scored, at most. None: all."""
    baselines: Annotated[tuple[Baseline, ...], Field(strict=False, max_length=2)] = ()
    """Twins to train beside the student for as many steps: `sft` by cross-entropy alone, `kld` by KL(teacher ‖ student) at τ 1."""
    generation: GenerationSpec = GenerationSpec()
    """How answers to the validation and test rows are made."""
    suites: Suites = ()
    """Benchmarks, or rows of one's own, that every model of the run is scored on."""
    judge: JudgeSpec | None = None
    """What the operator's judge is asked. None: nothing."""

    @field_validator("baselines")
    @classmethod
    def _each_once(cls, value: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each baseline once")
        return value

    @model_validator(mode="after")
    def _suites_are_told_apart(self) -> EvaluationSpec:
        _named_apart(self.suites)
        return self

    @model_validator(mode="after")
    def _judge_finds_answers(self) -> EvaluationSpec:
        if self.judge is None:
            return self
        texts = [suite.title for suite in self.suites if suite.task in TEXT_TASKS]
        if not texts:
            raise FieldRefused("judge", "answers to text suites are compared, and the run has none; add one to suites")
        if unknown := [title for title in self.judge.suites or () if title not in texts]:
            raise FieldRefused(
                "judge.suites", f"{unknown[0]!r} is no text suite of this run; it has {', '.join(texts)}"
            )
        trained = ("teacher", "untouched", *self.baselines)
        if missing := [name for name in self.judge.against if name not in trained]:
            raise FieldRefused("judge.against", f"{missing[0]!r} is not trained by this run; add it to baselines")
        return self

    @property
    def pinned_rows(self) -> int:
        """How many answers a validation tells at most."""
        return (0 if self.validation_metric == "ce" else 4) if self.pinned is None else self.pinned

    @property
    def judged(self) -> tuple[str, ...]:
        """The titles of the suites whose answers a judge compares."""
        if self.judge is None:
            return ()
        texts = tuple(suite.title for suite in self.suites if suite.task in TEXT_TASKS)
        return self.judge.suites or texts


class ExaminationConfig(Frozen):
    """A model that is scored as it is, without any training."""

    suites: Annotated[tuple[SuiteSpec, ...], Field(strict=False, min_length=1, max_length=16)]
    """What the model is scored on."""
    template: Literal["paper", "chat"] = "paper"
    """Prompts as plain text, or by the model's chat template."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Prompts that are answered together."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of the bootstrap."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """As of a run."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """As of a run."""

    @model_validator(mode="after")
    def _suites_are_told_apart(self) -> ExaminationConfig:
        _named_apart(self.suites)
        return self


class CheckpointSpec(Frozen):
    """When training state is sealed, and how many states are kept beside the best."""

    every_steps: PositiveInt = 200
    """A training state is sealed every so many optimizer steps; a job that is taken up again goes on at the last."""
    keep: Annotated[int, Field(ge=1, le=100)] = 2
    """How many states are kept; older ones go."""


class ResourceSpec(Frozen):
    """What a job runs on: `gpus` processes on each of `nodes` machines, one per GPU (on a machine without, that many CPU processes)."""

    gpus: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes of a machine."""
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Machines; more than one are started by torchrun, not by a worker."""
    sharding: Literal["none", "full"] = "none"
    """`none` copies the student to every process (DDP), `full` splits weights, gradients and optimizer (FSDP2)."""


Name = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


# Stages of equal length over the epochs, as POCL's .3, .2, .1, 0.
AlphaStages = Annotated[tuple[Fraction, ...], Field(strict=False, min_length=1, max_length=1000)]


class RunConfig(Frozen):
    """One distillation. Teacher, student and dataset are required; everything else has a default or comes from the preset."""

    teacher: TeacherRef
    """The large model, and how its states are kept."""
    student: StudentRef
    """The small model that learns; its tokenizer is the teacher's."""
    dataset: DatasetSpec
    """Where the rows come from."""

    epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """n, the epochs of the curriculum."""
    tau_1: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    """Temperature τ of both distributions in the first epoch: τ_e = τ_1 + (τ_n − τ_1)(e−1)/(n−1) (M10)."""
    tau_n: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    """τ in the last epoch."""
    preset: Preset = "recommended"
    """The method; it fills in every field of this table that says so and is not given (docs/method.md, section 7)."""
    alpha: Fraction | AlphaStages | None = None
    """α in L = α·CE + (1−α)·τ²·D (M14), one number or stages of equal length over the epochs. On-policy it is 0 unless it is given."""
    divergence: Divergence | None = None
    """D, of the teacher's distribution p and the student's q: `kld` KL(p‖q), `rkl` KL(q‖p), `pmtd` KL(tq + (1−t)p ‖ q), the others in
    M18 to M24; `sft` has none."""
    constants: ConstantsSpec | None = None
    """α, β or λ of the divergence."""
    detach_target: bool = False
    """Whether the mixed target of `pmtd` is a constant to the gradient, (1/τ)(1−t)(q−p) (M25)."""
    tau_squared: bool = True
    """Whether D is multiplied by τ², which keeps its gradient's size as τ rises (M14)."""
    mixing: MixingSpec | None = None
    """The schedule of t: the student's weight in the target of `pmtd`, the teacher's in that of `taid`."""
    policy: PolicySpec | None = None
    """Whose answers are learnt from."""
    curriculum: Curriculum | None = None
    """k_e, how many of the easiest samples epoch e has: `calibrated` min{k : L̄(k) ≥ e/n·L̄(N)}, `linear` ⌈e/n·N⌉, `none` N, the others in M7
    to M8b."""
    min_fraction: Fraction = 0.0
    """No epoch has fewer than this share of the samples, nor than a batch (M6)."""
    difficulty: Difficulty | None = None
    """What the samples are sorted by: cross-entropy of the untrained student (`ce_mean`, `ce_sum`) or the teacher (`teacher_ce`), their
    quotient (`dds`), the student's entropy, or how its answers fare (M1 to M3f)."""
    subset_repeat: Annotated[int, Field(ge=1, le=1000)] | None = None
    """r: an epoch visits each of its samples r times, in ⌈r·k_e/B⌉ steps (M9)."""
    budget: BudgetSpec | None = None
    """How long the student trains, whatever its curriculum. None: as the curriculum has it."""
    refresh_every: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Rank the samples anew after every so many epochs, by the cross-entropy seen in training (paper 6.2). None: never."""

    optimizer: OptimizerSpec = OptimizerSpec()
    """Of the student and its twins."""
    lora: LoraSpec | None = None
    """Train an adapter on every linear layer of attention and MLP. None: all weights."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory for more time."""
    template: Literal["paper", "chat"] = "paper"
    """Prompts as the paper's plain text, or by the teacher's chat template."""
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] = 512
    """Tokens of a sample, prompt and response and the end token."""
    overlong: Literal["drop", "truncate_response"] = "drop"
    """What becomes of a longer one: it is dropped, or its response cut at the end. A prompt is never cut."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of splits, rows that are scored, the tuned teacher and, without `student_seed`, of all else."""
    student_seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Of what the student's training leaves to chance (order of batches, dropout, LoRA's first weights), its twins' too, so that seeds are
    compared on the same rows under the same teacher. None: `seed`."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of matrix products; trained weights and the optimizer stay float32. `auto`: bf16 on a GPU that has it, else fp32."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Of the CPU, shared out among the processes of a machine. None: as many as there are cores."""
    resources: ResourceSpec = ResourceSpec()
    """Processes and machines that the job runs on."""

    teacher_sft: TeacherSft | None = None
    """Fine-tune the teacher on the same rows first. None: take it as it is."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """What is scored, and on how many rows."""
    checkpoints: CheckpointSpec = CheckpointSpec()
    """When training states are sealed."""
    name: Name | None = None
    """What the job is called in lists; of no effect."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] = {}
    """Up to 16 texts of one's own; of no effect."""

    @model_validator(mode="after")
    def _layers_remain(self) -> RunConfig:
        match self.teacher, self.student:
            case TinyModel(layers=layers), StudentFromTeacher(drop_layers=dropped) if dropped >= layers:
                raise FieldRefused("student.drop_layers", "at least one of the teacher's layers must be left")
        return self

    @model_validator(mode="after")
    def _constants_belong(self) -> RunConfig:
        divergence = self.divergence or PRESETS[self.preset]["divergence"]
        given = {} if self.constants is None else self.constants.given()
        known = CONSTANTS.get(divergence, ())
        if unknown := [name for name in given if name not in known]:
            has = f"has {' and '.join(known)} only" if known else "has none"
            raise FieldRefused(f"constants.{unknown[0]}", f"it is not of {divergence!r}, which {has}")
        if divergence in ("jsd", "skl", "srkl") and not 0.0 < given.get("beta", 0.5) < 1.0:
            raise FieldRefused("constants.beta", f"{divergence} mixes with a weight between 0 and 1, both excluded")
        if divergence == "bdl" and abs(given.get("lam", 0.9) - 0.5) < BDL_DEAD_ZONE:
            raise FieldRefused("constants.lam", "bdl is identically 0 at 0.5; the paper has 0.9")
        return self

    @model_validator(mode="after")
    def _mixing_follows_growth(self) -> RunConfig:
        curriculum = self.curriculum or PRESETS[self.preset]["curriculum"]
        if curriculum == "dakd" and self.mixing is not None and self.mixing.kind == "calibrated":
            raise FieldRefused(
                "mixing.kind", "'calibrated' follows the difficulty of a subset that grows; that of 'dakd' shrinks"
            )
        return self

    @model_validator(mode="after")
    def _whole_logits_are_kept(self) -> RunConfig:
        divergence = self.divergence or PRESETS[self.preset]["divergence"]
        if divergence == "taid" and self.teacher.top_k is not None:
            raise FieldRefused("teacher.top_k", "taid mixes whole logits, of which the top k do not suffice")
        return self

    @model_validator(mode="after")
    def _student_can_be_listened_to(self) -> RunConfig:
        given = PRESETS[self.preset].get("policy")
        policy = self.policy or (PolicySpec.model_validate(given) if given else None)
        if policy is None or policy.kind == "off":
            return self
        if (self.divergence or PRESETS[self.preset]["divergence"]) == "sft":
            raise FieldRefused(
                "policy", "the student's own text is learnt from by what the teacher says of it, and 'sft' asks none"
            )
        if self.teacher.top_k is not None:
            raise FieldRefused(
                "teacher.top_k",
                "of text that the student has yet to write nothing can be kept; leave top_k out, or policy 'off'",
            )
        resources, part = self.resources, math.ceil(policy.student_fraction * self.optimizer.batch_size)
        if policy.buffer is not None and policy.buffer < part:
            raise FieldRefused(
                "policy.buffer", f"a step takes up to {part} of the student's answers; keep as many at least"
            )
        if policy.refresh == "step" and resources.sharding == "full" and resources.gpus * resources.nodes > 1:
            raise FieldRefused(
                "policy.refresh",
                "'step' would put a sharded student together every few steps; take 'epoch', or sharding 'none'",
            )
        return self

    @property
    def on_policy(self) -> PolicySpec | None:
        """How the student answers itself, None where it does not; of a resolved config."""
        return self.policy if self.policy is not None and self.policy.kind == "on" else None

    @property
    def own_share(self) -> float:
        """The share of visits that show the data's own responses; of a resolved config."""
        return 1.0 - self.on_policy.student_fraction if self.on_policy is not None else 1.0

    @property
    def training_seed(self) -> int:
        """What the student's training draws from; rows and teacher draw from `seed`."""
        return self.seed if self.student_seed is None else self.student_seed

    def resolved(self) -> RunConfig:
        """The same run with every `None` that the preset decides filled in. Idempotent."""
        preset = PRESETS[self.preset]
        missing = {name: value for name, value in preset.items() if getattr(self, name) is None}
        if self.divergence not in (None, preset["divergence"]):
            # Another divergence's constants are not for this one.
            missing.pop("constants", None)
        if self.on_policy is not None and self.alpha is None:
            # On-policy there is no cross-entropy unless it is asked for (A.4.3), whatever the preset has off-policy.
            missing["alpha"] = 0.0
        elif self.policy is not None and self.alpha is None and preset.get("policy", {}).get("kind") == "on":
            # An on-policy preset with its policy off weighs cross-entropy as every off-policy method of the paper does.
            missing["alpha"] = 0.3
        return RunConfig.model_validate(self.model_dump() | missing) if missing else self
