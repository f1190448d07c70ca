"""What a run says while it works: frozen values with a `kind`, one JSON object a line on the wire. Torch-free.

The REST API's event schema is made from these same classes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, TypeAdapter

Phase = Literal["prepare", "teacher_sft", "profile", "train", "evaluate", "export"]
PHASES: tuple[Phase, ...] = ("prepare", "teacher_sft", "profile", "train", "evaluate", "export")
# Which model a training loop moves: the teacher in its own fine-tuning, the student, or a twin of it (CE alone, or plain KLD).
Trained = Literal["teacher", "student", "sft", "kld"]
Subject = Literal["teacher", "untouched", "student", "sft", "kld"]
# Who answers a suite: a model of a run, or one that is examined by itself.
Examinee = Literal[Subject, "model"]
Split = Literal["validation", "test"]
# What a job finds that another one of the same machine has made.
Shareable = Literal["tuned_teacher", "student_scores", "student_attempts", "teacher_answers", "untouched_answers"]
# `phase`: the result of a finished piece of work; `training`: state to resume from; `best`: weights chosen on validation;
# `export`: the files a user downloads.
CheckpointRole = Literal["phase", "training", "best", "export"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """First event of every attempt at the run, by `processes` of which one speaks; `device` and `threads` are of each."""

    config_sha256: str
    device: str
    precision: str
    threads: int
    versions: dict[str, str]
    resumed: bool
    processes: int = 1
    kind: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """A phase begins; `index` counts from 0 of `total`."""

    phase: Phase
    index: int
    total: int
    kind: Literal["phase_started"] = "phase_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFinished:
    """A phase is done and sealed; `reused` when an earlier process of this run had already done it.

    `cpu_s`: processor seconds of all threads of the process that speaks, None where nobody counted them.
    """

    phase: Phase
    duration_s: float
    reused: bool
    cpu_s: float | None = None
    kind: Literal["phase_finished"] = "phase_finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """Work inside a phase that is not training: rows encoded, scored or generated."""

    phase: Phase
    label: str
    done: int
    total: int
    kind: Literal["progressed"] = "progressed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something a user should know; `code` is stable."""

    code: str
    message: str
    kind: Literal["warned"] = "warned"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReady:
    """Rows per split, what was dropped and why, and the hash of the normalised rows."""

    rows: dict[str, int]
    dropped: dict[str, int]
    prompt_tokens: int
    supervised_tokens: int
    sha256: str
    kind: Literal["data_ready"] = "data_ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizersCompared:
    """Teacher's and student's own tokenizers, whose `vocabulary` ids mean the same tokens to both.

    Of `rows` training rows that were looked at both split `alike`; the token that ends an answer by each, empty where it has none;
    whether their chat templates write alike, None where none is asked for or one has none.
    """

    vocabulary: int
    rows: int
    alike: int
    teacher_end: str
    student_end: str
    same_template: bool | None
    kind: Literal["tokenizers_compared"] = "tokenizers_compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPlan:
    """One epoch of the plan: k_e of N samples, target mean difficulty (None where the curriculum has none), iterations, τ_e, t_e, α_e.

    `visits`: how often it shows a sample, r·k_e; under a budget as often as its iterations have room for.
    """

    epoch: int
    subset_size: int
    target: float | None
    iterations: int
    visits: int
    temperature: float
    mixing: float
    alpha: float
    dead: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The whole plan, before training. Iterations are optimizer steps."""

    samples: int
    batch_size: int
    total_iterations: int
    supervised_tokens: int
    epochs: tuple[EpochPlan, ...]
    kind: Literal["planned"] = "planned"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseForecast:
    """What one phase takes: seconds on the wall, and processor seconds of all threads."""

    phase: Phase
    duration_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasted:
    """What the run takes from its start to its end, by its plan and by steps that were timed on this device; the results are untouched.

    `exact` where the subsets are known; before the profile a calibrated curriculum is taken to grow evenly, and the duration lies
    between `least_s` and `most_s`. `tokens` go through the student in training, at `tokens_per_s`, validation left out.
    `memory_bytes` is the peak of the accelerator, or of the process where there is none; `cache_bytes` what the teacher's states
    take, 0 where none are kept; `probe_s` what the timing itself took.
    """

    exact: bool
    duration_s: float
    least_s: float
    most_s: float
    cpu_s: float
    phases: tuple[PhaseForecast, ...]
    tokens: int
    tokens_per_s: float
    memory_bytes: int
    cache_bytes: int
    disk_bytes: int
    probe_s: float
    kind: Literal["forecasted"] = "forecasted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSample:
    """A training sample and its difficulty in the profile's metric."""

    id: str
    score: float
    prompt: str
    response: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSample:
    """A training sample at place `k`, from 1, of the profile's order, with its difficulty and the head of its prompt."""

    k: int
    id: str
    score: float
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspiciousSample:
    """A training sample that the untrained student finds hard and the teacher unlikely: often a wrong answer. Nats per token."""

    id: str
    student_ce: float
    teacher_ce: float
    prompt: str
    response: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileReady:
    """The difficulty profile L̄(k), thinned to at most about 500 points (`k`, `cumulative`), and what the curriculum made of it.

    `descending`: the curriculum takes the hardest first, and L̄(k) is the mean of the k hardest. `along`: samples at even distances
    in the profile's order. `suspicious`: of the samples in the hardest tenth of both models those that the teacher finds least likely,
    None where the difficulty did not ask the teacher.
    """

    difficulty: str
    samples: int
    unscored: int
    descending: bool
    mean: float
    k: tuple[int, ...]
    cumulative: tuple[float, ...]
    histogram_edges: tuple[float, ...]
    histogram_counts: tuple[int, ...]
    targets: tuple[float, ...]
    subset_sizes: tuple[int, ...]
    mixing: tuple[float, ...]
    temperatures: tuple[float, ...]
    easiest: tuple[ScoredSample, ...]
    hardest: tuple[ScoredSample, ...]
    along: tuple[PlacedSample, ...] = ()
    suspicious: tuple[SuspiciousSample, ...] | None = None
    kind: Literal["profile_ready"] = "profile_ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingRefreshed:
    """The samples were ranked anew before `epoch` (paper 6.2): Spearman's rank correlation with the first ranking, in −1..1, and
    the share of the epoch's `subset_size` samples that the first ranking would have taken as well (Table 3)."""

    epoch: int
    spearman: float
    overlap: float
    subset_size: int
    kind: Literal["ranking_refreshed"] = "ranking_refreshed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentAnswered:
    """The student has answered training prompts, to learn from its own text in `epoch`, after `step` finished steps.

    `mean_tokens` without the end token; the share that `ended` by themselves, the others were cut short; the share that is `empty`.
    """

    epoch: int
    step: int
    answers: int
    mean_tokens: float
    ended: float
    empty: float
    kind: Literal["student_answered"] = "student_answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherStatesPlanned:
    """Whether the teacher's states are kept (`disk`, `memory`) or its body is asked at every visit (`off`), before either is spent.

    `states_bytes`: what they take; `cached`: another job has left them. Passes of the body over a sample in this job, without and
    with them; `operations_ratio`: the whole job's floating-point operations without ÷ with, None where a model's shape is unknown.
    """

    kept: Literal["disk", "memory", "off"]
    reason: str
    cached: bool
    states_bytes: int
    passes_without: float
    passes_with: float
    operations_ratio: float | None
    kind: Literal["teacher_states_planned"] = "teacher_states_planned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """A piece of work that another job of this machine had done, bit for bit as this one would have: it is taken over."""

    what: Shareable
    kind: Literal["recalled"] = "recalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochStarted:
    """A training epoch begins on `subset_size` of `samples` samples."""

    trained: Trained
    epoch: int
    epochs: int
    subset_size: int
    samples: int
    iterations: int
    temperature: float
    mixing: float
    alpha: float
    kind: Literal["epoch_started"] = "epoch_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One optimizer step. `values` (loss, ce, kd, grad_norm, learning_rate, tokens, processed_tokens …) repeat exactly on resume.

    `tokens` are supervised ones, `processed_tokens` all that went through the student. The other fields are of this process and do
    not; `step_s` is what the step took, validation and saving left out.
    """

    trained: Trained
    step: int
    total_steps: int
    epoch: int
    values: dict[str, float]
    tokens_per_s: float
    step_s: float
    eta_s: float | None
    memory_bytes: int
    kind: Literal["measured"] = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedAnswer:
    """What the model answers to a row that is looked at again and again; texts are cut."""

    row: str
    prompt: str
    reference: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Scores of one model on one split. exact_match and rouge_l in percent; ce in nats per supervised token. `answers`: to pinned rows."""

    subject: Subject
    split: Split
    rows: int
    metrics: dict[str, float]
    epoch: int | None = None
    step: int | None = None
    answers: tuple[PinnedAnswer, ...] = ()
    kind: Literal["evaluated"] = "evaluated"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFile:
    """A file of a sealed directory: path relative to it, bytes, sha256."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointed:
    """A sealed directory at `path` under the run's output directory; `retained` names all of this role (and model) that still stand."""

    name: str
    role: CheckpointRole
    path: str
    files: tuple[SealedFile, ...]
    retained: tuple[str, ...]
    step: int | None = None
    epoch: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    kind: Literal["checkpointed"] = "checkpointed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Distilled student against another model, paired by sample: mean difference, 95 % bootstrap interval, Wilcoxon signed-rank p.

    `p_value` is None where every pair is tied.
    """

    subject: Subject
    metric: str
    difference: float
    interval: tuple[float, float]
    p_value: float | None
    non_zero: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteScored:
    """One model's answers to one suite under one seed (None: greedy) are sealed; metrics in percent. `settings_sha256` tells which
    answers were made alike: it hashes the data, the prompts' text and the settings, but not the model.
    """

    subject: Examinee
    suite: str
    task: str
    seed: int | None
    rows: int
    metrics: dict[str, float]
    settings_sha256: str
    kind: Literal["suite_scored"] = "suite_scored"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteScore:
    """One metric of one model on a suite, in percent: the mean over its seeds of the mean over the rows.

    `item_error`: standard error over the rows, each averaged over the seeds, None of one row; `seed_deviation`: standard deviation of
    the seeds' means, None where there are not two.
    """

    mean: float
    item_error: float | None
    seed_deviation: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteReport:
    """A suite's part of the final table. `scores` by model and metric; `comparisons` of the student with the others, rows averaged over
    the seeds before they are paired; `seeds` is empty for greedy answers.
    """

    suite: str
    task: str
    rows: int
    seeds: tuple[int, ...]
    settings_sha256: str
    scores: dict[str, dict[str, SuiteScore]]
    gap_closed: dict[str, float]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAgainst:
    """The distilled student's answers to a suite against another model's, each pair in both orders.

    `win_rate`: (wins + ties/2) / valid in percent, None where no pair has a verdict; `disagreements`: of the ties, those whose two orders
    differ; `errors`: the other pairs, by reason; `cost` in the operator's currency, None where a price is not known.
    """

    suite: str
    subject: Subject
    pairs: int
    valid: int
    wins: int
    ties: int
    losses: int
    disagreements: int
    errors: dict[str, int]
    win_rate: float | None
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """What the judge `model` said. `unavailable`: why not all that was asked for has been judged, None where it has."""

    model: str
    results: tuple[JudgedAgainst, ...]
    unavailable: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The final table. `gap_closed` by metric: (student − untouched) / (teacher − untouched); absent where the gap is not positive.

    `rows` and what follows are of the run's own test split; `suites` of each suite that was asked for; `judged` where a
    judge was. `intervals` by model and metric: 95 % bootstrap intervals of `scores` over the rows; reports of older versions lack them.
    """

    rows: int
    scores: dict[str, dict[str, float]]
    steps: dict[str, int]
    gap_closed: dict[str, float]
    comparisons: tuple[Comparison, ...]
    suites: tuple[SuiteReport, ...] = ()
    judged: JudgeReport | None = None
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    kind: Literal["reported"] = "reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """The table of a model that was scored by itself."""

    suites: tuple[SuiteReport, ...]
    kind: Literal["examined"] = "examined"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberScore:
    """One metric of a compared member: the mean over its seeds, each seed's own value, and two 95 % intervals of the mean.

    `seed_interval`: Student's t over the seeds, None for one seed. `row_interval`: bootstrap over the test rows, each row's value
    averaged over the seeds. `gap_closed`: (member − untouched) / (teacher − untouched), None where there is no such gap.
    """

    mean: float
    by_seed: tuple[float, ...]
    seed_interval: tuple[float, float] | None
    row_interval: tuple[float, float]
    gap_closed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAgainst:
    """A member − the baseline in one metric, paired by test row after each row's value was averaged over the seeds.

    `p_value`: two-sided Wilcoxon signed-rank, `p_holm` the same adjusted for all members that are compared; None where all pairs tie.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float | None
    p_holm: float | None
    non_zero: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCosts:
    """What a run of a member took, on average over those that finished; None where it is not known.

    Optimizer steps of the student, supervised and processed tokens in them, the seconds they took, and all seconds on a worker.
    """

    steps: float | None
    supervised_tokens: float | None
    processed_tokens: float | None
    train_s: float | None
    worker_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMember:
    """A member's line of the table: `seeds` that finished, what the others ended in, and scores of its teacher and untouched student."""

    label: str
    seeds: tuple[int, ...]
    failures: tuple[str, ...]
    scores: dict[str, MemberScore]
    against: dict[str, MemberAgainst]
    teacher: dict[str, float]
    untouched: dict[str, float]
    costs: MemberCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteMember:
    """A member's line of a suite's table: as `ComparedMember`, of the runs that finished."""

    label: str
    scores: dict[str, MemberScore]
    against: dict[str, MemberAgainst]
    teacher: dict[str, float]
    untouched: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedSuite:
    """A suite's part of a comparison's table, over the `rows` that all finished runs have answered. Metrics in percent, the first decides.

    `seeds` are those of the sampled answers, empty where they are greedy: a row's value is the mean over them, and only then over the
    seeds of the training. Members without a finished run are left out.
    """

    suite: str
    task: str
    rows: int
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    members: tuple[SuiteMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The table of a comparison over the `rows` test rows that all finished runs have scored, and of each suite that they answered.

    `notes`: what a reader should know of it, such as where that which is not in it is to be found. Tables of older versions have
    neither suites nor notes.
    """

    rows: int
    baseline: str
    budget: str
    members: tuple[ComparedMember, ...]
    suites: tuple[ComparedSuite, ...] = ()
    notes: tuple[str, ...] = ()
    kind: Literal["compared"] = "compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The student as a user downloads it: sealed directory, formats ('merged', and 'adapter' with LoRA), parameters."""

    name: str
    path: str
    formats: tuple[str, ...]
    parameters: int
    size_bytes: int
    kind: Literal["exported"] = "exported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Last event of a run that succeeded."""

    duration_s: float
    kind: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Last event of a process that stopped on request; the run can be resumed."""

    phase: Phase
    kind: Literal["stopped"] = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Last event of a run that failed; `code` is one of cpd_engine.errors."""

    code: str
    message: str
    kind: Literal["failed"] = "failed"


Event = (
    RunStarted
    | PhaseStarted
    | PhaseFinished
    | Progressed
    | Warned
    | DataReady
    | TokenizersCompared
    | Forecasted
    | Planned
    | ProfileReady
    | RankingRefreshed
    | StudentAnswered
    | TeacherStatesPlanned
    | Recalled
    | EpochStarted
    | Measured
    | Evaluated
    | SuiteScored
    | Checkpointed
    | Reported
    | Examined
    | Compared
    | Exported
    | Finished
    | Stopped
    | Failed
)
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


class Emit(Protocol):
    """Where a run's events go."""

    def __call__(self, event: Event, /) -> None: ...


def to_json(event: Event) -> str:
    """One line of JSON without NaN or Infinity (ValueError if there is one)."""
    return json.dumps(asdict(event), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def from_json(line: str | bytes) -> Event:
    """Inverse of `to_json`; raises pydantic.ValidationError on anything else."""
    return EVENT.validate_json(line)


def to_dict(event: Event) -> dict[str, Any]:
    """The event as JSON-ready values, `kind` included."""
    return asdict(event)
