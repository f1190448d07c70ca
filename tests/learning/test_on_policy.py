"""The student learns from its own text: what that does to a step, to a student, to a run that was killed, and to two processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cpd_engine import checkpoint, pipeline
from cpd_engine.config import GenerationSpec, LoraSpec, OptimizerSpec, RunConfig
from cpd_engine.course import Turn
from cpd_engine.data.batches import Batch, pack
from cpd_engine.data.encode import Sample
from cpd_engine.data.store import Samples
from cpd_engine.errors import StopRequested
from cpd_engine.events import EpochPlan, to_dict
from cpd_engine.events import Event as EngineEvent
from cpd_engine.generate import generate
from cpd_engine.inputs import Inputs
from cpd_engine.learner import Learner
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.lora import attach_lora
from cpd_engine.objective import Objective, Taught
from cpd_engine.policy import OwnAnswer, own_sample
from cpd_engine.states.kept import Kept
from cpd_engine.states.layout import lay_out
from cpd_engine.states.once import Question
from cpd_engine.states.records import HiddenRecords
from cpd_engine.teacher import KeptTeacher, PartlyKeptTeacher, Teacher
from tests.learning.engine_runs import Event, contents, measured, recipe, run_to_end, run_until, start
from tests.learning.small_models import CPU, decoder, samples

EPOCH = EpochPlan(
    epoch=1, subset_size=8, target=None, iterations=1, visits=8, temperature=1.5, mixing=0.4, alpha=0.3, dead=False
)
KD = Objective(divergence="pmtd", alpha=0.3, temperature=1.5, mixing=0.4)
END = 1


def _mixed(count: int = 9) -> list[Sample]:
    """Every second sample with an answer of its own length, every fourth of these cut short."""
    random = np.random.default_rng(5)
    found = []
    for number, sample in enumerate(samples(count)):
        said = random.integers(2, 250, size=int(random.integers(0, 9))).astype(np.int32)
        answer = OwnAnswer(index=number, tokens=said, ended=len(said) == 0 or number % 4 == 1)
        found.append(own_sample(sample, answer, END) if number % 2 else sample)
    return found


def _turn(chosen: Sequence[Sample], objective: Objective = KD, rate: float = 1e-3) -> Turn:
    return Turn(
        epoch=EPOCH, index=0, samples=chosen, indices=np.arange(len(chosen)), objective=objective, learning_rate=rate
    )


def _learner(
    folder: Path, *, micro: int | None = None, double: bool = False, lora: bool = False, kind: str = "llama"
) -> Learner:
    student = decoder(folder, kind=kind)
    if double:
        student.model.double()
    if lora:
        student = attach_lora(student, LoraSpec(rank=2, alpha=4.0), seed=1)
    return Learner(student, spec=OptimizerSpec(batch_size=8, micro_batch_size=micro), runtime=CPU)


def _teacher(folder: Path, *, double: bool = False) -> Teacher:
    mentor = decoder(folder, layers=2, hidden=48, seed=5)
    if double:
        mentor.model.double()
    return Teacher(mentor, CPU)


def _gradients(learner: Learner) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in learner.decoder.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro", [1, 2, 3, 8])
@pytest.mark.parametrize("lora", [False, True])
def test_any_split_of_a_step_with_both_kinds_gives_the_gradient_of_the_whole(
    tmp_path: Path, micro: int, lora: bool
) -> None:
    whole, split = (_learner(tmp_path, micro=size, double=True, lora=lora) for size in (None, micro))
    teacher = _teacher(tmp_path, double=True)
    found = [learner.accumulate(_mixed(), KD, teacher) for learner in (whole, split)]
    torch.testing.assert_close(found[0].means, found[1].means, rtol=1e-12, atol=1e-14)
    for name, gradient in _gradients(whole).items():
        torch.testing.assert_close(_gradients(split)[name], gradient, rtol=0, atol=1e-12)


def test_a_step_is_the_sum_over_its_tokens_of_both_kinds_with_cross_entropy_on_the_data_s_alone(tmp_path: Path) -> None:
    """α Σ_data CE + (1 − α) Σ_all τ²·D, over the tokens of both, from the two kinds taken by themselves."""
    chosen, teacher = _mixed(), _teacher(tmp_path, double=True)
    kinds = [[one for one in chosen if one.generated == kind] for kind in (False, True)]
    tokens = [sum(one.supervised for one in kind) for kind in kinds]

    def taken(given: Sequence[Sample], objective: Objective) -> tuple[dict[str, Tensor], list[float]]:
        # Llama's norms round to float32, by which a gradient is no multiple of another's.
        learner = _learner(tmp_path, double=True, kind="gpt2")
        found = learner.accumulate(given, objective, teacher)
        assert found.own_tokens == sum(one.supervised for one in given if not one.generated)
        return _gradients(learner), found.means.tolist()

    whole, (loss, ce, kd) = taken(chosen, KD)
    data, (data_loss, data_ce, data_kd) = taken(kinds[0], KD)
    text, (text_loss, _, text_kd) = taken([replace(one, generated=False) for one in kinds[1]], replace(KD, alpha=0.0))
    weights = [count / sum(tokens) for count in tokens]
    assert ce == pytest.approx(data_ce, rel=1e-12)
    assert kd == pytest.approx(weights[0] * data_kd + weights[1] * text_kd, rel=1e-12)
    assert loss == pytest.approx(weights[0] * data_loss + 0.7 * weights[1] * text_loss, rel=1e-12)
    assert loss == pytest.approx(0.3 * ce * weights[0] + 0.7 * kd, rel=1e-12)
    for name, gradient in whole.items():
        expected = weights[0] * data[name] + 0.7 * weights[1] * text[name]
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


def test_without_alpha_what_the_student_said_never_pulls_it_towards_itself(tmp_path: Path) -> None:
    """A teacher that is the student has nothing to say of the student's text, whatever α: no gradient is left."""
    learner = _learner(tmp_path, double=True)
    same = decoder(tmp_path)
    same.model.double()
    text = [one for one in _mixed() if one.generated]
    found = learner.accumulate(text, Objective(divergence="kld", alpha=0.3), Teacher(same, CPU))
    assert found.means.tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert max(float(gradient.abs().max()) for gradient in _gradients(learner).values()) < 1e-12


def test_a_step_of_the_student_s_text_alone_has_no_cross_entropy_and_under_alpha_one_no_loss(tmp_path: Path) -> None:
    text = [one for one in _mixed() if one.generated]
    found = _learner(tmp_path).learn(_turn(text), _teacher(tmp_path))
    assert (found.ce, found.own_tokens) == (0.0, 0)
    assert found.loss == pytest.approx(0.7 * found.kd)
    assert found.kd > 0.0
    only_ce = _learner(tmp_path).learn(_turn(text, replace(KD, alpha=1.0)), None)
    assert (only_ce.loss, only_ce.grad_norm) == (0.0, 0.0)


class _Body(Teacher):
    """A teacher that counts the tokens its body sees."""

    def __init__(self, made: Decoder) -> None:
        super().__init__(made, CPU)
        self.seen = 0

    def taught(self, batch: Batch, temperature: float) -> Taught:
        self.seen += batch.tokens
        return super().taught(batch, temperature)


def _kept(mentor: Decoder, known: Sequence[Sample]) -> Kept:
    records = HiddenRecords(width=mentor.head[0].shape[1], dtype=torch.float32)
    question = Question(samples=known, layout=lay_out(known), records=records, runtime=CPU, load=lambda: mentor)
    return question.in_memory(lambda *_: None)


def test_kept_states_serve_the_data_s_responses_and_the_body_the_student_s_text(tmp_path: Path) -> None:
    mentor = decoder(tmp_path, layers=2, hidden=48, seed=5)
    kept, body = KeptTeacher(_kept(mentor, samples(9))), _Body(mentor)
    chosen = _mixed()
    alone, partly = (_learner(tmp_path, micro=2) for _ in range(2))
    expected = alone.learn(_turn(chosen), Teacher(mentor, CPU))
    found = partly.learn(_turn(chosen), PartlyKeptTeacher(kept, body))
    assert body.seen == sum(len(one.input_ids) for one in chosen if one.generated)
    assert (found.loss, found.kd) == pytest.approx((expected.loss, expected.kd), rel=1e-5)
    with pytest.raises(ValueError, match="nothing is kept of the student's own text"):
        kept.taught(pack([one for one in chosen if one.generated]), 1.0)


@torch.no_grad()
def _divergence_on_own_text(student: Decoder, mentor: Decoder, prompts: Sequence[Any], seeds: Sequence[int]) -> float:
    """KL(student ‖ teacher) in nats per token of what the student says, both on the whole sequence; the measure of on-policy text."""
    settings = GenerationSpec(temperature=1.0, max_new_tokens=8)
    said = generate(student, prompts, settings=settings, end_ids=[END], seeds=seeds)
    total, count = 0.0, 0
    for prompt, answer in zip(prompts, said, strict=True):
        response = [*answer.tokens, END] if answer.finish_reason == "stop" else [*answer.tokens]
        ids = torch.tensor([[*prompt.tolist(), *response]])
        places = slice(len(prompt) - 1, ids.shape[1] - 1)
        q, p = (made.logits(made.hidden(ids))[0, places].log_softmax(-1) for made in (student, mentor))
        total += float((q.exp() * (q - p)).sum())
        count += len(response)
    return total / count


def test_gkd_brings_the_student_to_the_teacher_on_the_text_that_the_student_itself_writes(tmp_path: Path) -> None:
    mentor = decoder(tmp_path, layers=2, hidden=48, seed=5)
    with torch.no_grad():
        # A teacher of decided opinions.
        mentor.head[0].mul_(12.0)
    student = decoder(tmp_path)
    learner = Learner(student, spec=OptimizerSpec(), runtime=CPU)
    teacher, known = Teacher(mentor, CPU), samples(16)
    prompts = [one.input_ids[: one.prompt_length] for one in known]
    gkd = Objective(divergence="jsd", constants={"beta": 0.5}, alpha=0.0)
    settings = GenerationSpec(temperature=1.0, max_new_tokens=8)
    before = _divergence_on_own_text(student, mentor, prompts, range(500, 516))
    for step in range(80):
        said = generate(
            student, prompts[1::2], settings=settings, end_ids=[END], seeds=range(100 * step, 100 * step + 8)
        )
        chosen = list(known)
        for place, answer in zip(range(1, 16, 2), said, strict=True):
            own = OwnAnswer(
                index=place,
                tokens=np.array(answer.tokens, dtype=np.int32),
                ended=answer.finish_reason == "stop",
            )
            chosen[place] = own_sample(known[place], own, END)
        learner.learn(_turn(chosen, gkd, rate=1e-2), teacher)
    after = _divergence_on_own_text(student, mentor, prompts, range(500, 516))
    assert after < 0.5 * before


QUICK: dict[str, Any] = {
    "preset": "cpd_on_policy",
    "subset_repeat": 1,
    "teacher_sft": None,
    "mixing": {"kind": "adaptive", "end": 0.8},
    "evaluation": {
        "validation_metric": "ce",
        "validation_rows": 4,
        "test_rows": 2,
        "generation": {"max_new_tokens": 4},
    },
    "checkpoints": {"every_steps": 3, "keep": 2},
}
POLICY: dict[str, Any] = {"kind": "on", "max_new_tokens": 6, "batch_size": 6}
PER_EPOCH = POLICY | {"refresh": "epoch"}
BY_STEPS = POLICY | {"refresh": "step", "buffer": 9}
SAME = ("answers", "trained", "export")


def _config(folder: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate_json(recipe(folder, **QUICK | changes).read_text())


class _Killed(BaseException):
    """Stands for a kill: nothing in the engine may answer to it."""


def _run(config: RunConfig, out: Path, *, die_at: int | None = None, stop_at: str | None = None) -> list[Event]:
    """The events of a run in this process, which dies at one of them, or is asked to stop at the first of a kind."""
    events: list[Event] = []

    def emit(event: EngineEvent) -> None:
        events.append(json.loads(json.dumps(to_dict(event))))
        if len(events) == die_at:
            raise _Killed

    def stopping() -> bool:
        return stop_at is not None and any(stop_at in json.dumps(event) for event in events)

    with suppress(_Killed, StopRequested):
        pipeline.run(config, inputs=Inputs(), out=out, emit=emit, should_stop=stopping)
    return events


def _of(events: Sequence[Event], kind: str) -> list[Event]:
    return [event for event in events if event["kind"] == kind]


@pytest.mark.parametrize(("policy", "changes"), [(PER_EPOCH, {"refresh_every": 1}), (BY_STEPS, {"alpha": 0.2})])
def test_an_on_policy_run_dying_every_few_events_ends_like_an_unbroken_one(
    tmp_path: Path, policy: dict[str, Any], changes: dict[str, Any]
) -> None:
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.2}
    config = _config(tmp_path, policy=policy, lora=lora, epochs=2, checkpoints={"every_steps": 2, "keep": 1}, **changes)
    whole = _run(config, tmp_path / "whole")
    assert whole[-1]["kind"] == "finished"
    out = tmp_path / "broken"
    events: list[Event] = []
    for life in range(1, 200):
        events += _run(config, out, die_at=8 + 2 * life)
        if events[-1]["kind"] == "finished":
            break
    assert events[-1]["kind"] == "finished"
    assert len(_of(events, "run_started")) > 5
    assert measured(events) == measured(whole)
    assert contents(out, *SAME) == contents(tmp_path / "whole", *SAME)


def test_a_run_killed_amid_its_answers_and_amid_an_epoch_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    spec = recipe(tmp_path, **QUICK | {"policy": PER_EPOCH, "epochs": 2})
    whole = run_to_end(start(spec, tmp_path / "whole"))
    out, events = tmp_path / "broken", list[Event]()
    last = _of(whole, "student_answered")[-1]["step"]

    def is_at(kind: str, step: int) -> Callable[[Event], bool]:
        return lambda event: event["kind"] == kind and event["step"] == step

    for moment in (is_at("student_answered", 0), is_at("measured", 4), is_at("student_answered", last)):
        events += run_until(start(spec, out), moment, signal.SIGKILL)
    events += run_to_end(start(spec, out))
    assert measured(events) == measured(whole)
    assert contents(out, *SAME) == contents(tmp_path / "whole", *SAME)


def test_a_stop_in_the_middle_of_the_student_s_answers_is_obeyed_and_resumed(tmp_path: Path) -> None:
    config = _config(tmp_path, policy=PER_EPOCH, epochs=2)
    whole = _run(config, tmp_path / "whole")
    out = tmp_path / "stopped"
    events = _run(config, out, stop_at="student answers, epoch 2")
    assert events[-1] == {"phase": "train", "kind": "stopped"}
    assert [event["epoch"] for event in _of(events, "student_answered")] == [1]
    events += _run(config, out)
    assert measured(events) == measured(whole)
    assert contents(out, *SAME) == contents(tmp_path / "whole", *SAME)


def test_a_run_tells_of_its_answers_and_keeps_some_of_them_as_text(tmp_path: Path) -> None:
    out = tmp_path / "out"
    events = _run(_config(tmp_path, policy=PER_EPOCH, curriculum="none", epochs=2), out)
    told = _of(events, "student_answered")
    planned = _of(events, "planned")[0]["epochs"]
    assert [event["epoch"] for event in told] == [1, 2]
    assert [event["answers"] for event in told] == [epoch["visits"] // 2 for epoch in planned]
    assert all(0.0 <= event["mean_tokens"] <= 6.0 and 0.0 <= event["ended"] <= 1.0 for event in told)
    labels = {event["label"] for event in _of(events, "progressed")}
    assert {"student answers, epoch 1", "student answers, epoch 2"} <= labels
    lines = checkpoint.read_jsonl(out / "answers" / "epoch-0002" / "samples.jsonl")
    assert len(lines) == 16
    assert all({"id", "prompt", "response", "answer", "tokens", "finish_reason"} == line.keys() for line in lines)
    steps = [event["values"] for event in _of(events, "measured")]
    assert all(0.0 < values["student_tokens"] < values["tokens"] for values in steps)
    assert {values["alpha"] for values in steps} == {0.0}


def test_adaptive_mixing_is_measured_above_its_plan_and_never_below(tmp_path: Path) -> None:
    events = _run(_config(tmp_path, policy={"kind": "off"}, alpha=0.3, epochs=2), tmp_path / "out")
    planned = [epoch["mixing"] for epoch in _of(events, "planned")[0]["epochs"]]
    assert planned == [0.4, 0.8]
    taken = [
        (planned[event["epoch"] - 1], event["values"]["mixing"])
        for event in _of(events, "measured")
        if event["trained"] == "student"
    ]
    assert all(bound <= t <= 0.8 for bound, t in taken)
    first = [t for bound, t in taken if bound == 0.4]
    assert first == sorted(first)
    assert first[-1] > 0.4


def test_no_answer_makes_a_sample_longer_than_it_may_be(tmp_path: Path) -> None:
    """Where rows leave room for few tokens, answers are cut there, and the run goes through."""
    config = _config(tmp_path, policy=PER_EPOCH | {"max_new_tokens": 200}, max_length=160, epochs=1)
    out = tmp_path / "out"
    events = _run(config, out)
    assert events[-1]["kind"] == "finished"
    assert 6.0 < _of(events, "student_answered")[0]["mean_tokens"] < 160.0
    held = checkpoint.read_tensors(checkpoint.states(out / "train")[-1] / "answers.safetensors")
    assert int(held["lengths"].sum()) == len(held["tokens"])
    assert len(held["lengths"]) == len(held["ended"]) == len(held["indices"])
    prompts = Samples(out / "encoded" / "train.arrow").prompt_lengths[held["indices"].numpy()]
    whole = prompts + held["lengths"].numpy() + held["ended"].numpy()
    assert whole.max() == 160


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_processes_answer_and_learn_what_one_does(tmp_path: Path, sharding: str) -> None:
    policy = BY_STEPS if sharding == "none" else PER_EPOCH
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    changes = QUICK | {"policy": policy, "epochs": 2}
    one = run_to_end(start(recipe(tmp_path / "one", **changes), tmp_path / "one" / "out"))
    resources = {"gpus": 2, "sharding": sharding}
    two = run_to_end(start(recipe(tmp_path / "two", **changes, resources=resources), tmp_path / "two" / "out"))
    assert _of(two, "student_answered") == _of(one, "student_answered")
    wanted = measured(one)
    assert measured(two).keys() == wanted.keys()
    for place, values in measured(two).items():
        for name in ("loss", "kd", "tokens", "student_tokens", "mixing"):
            if name in wanted[place]:
                assert values[name] == pytest.approx(wanted[place][name], abs=1e-5), (place, name)


@pytest.mark.parametrize("cache", ["memory", "off"])
def test_a_run_with_kept_states_and_one_without_learn_alike(tmp_path: Path, cache: str) -> None:
    teacher = {"tiny": "llama", "layers": 2, "hidden": 32, "heads": 2, "vocabulary": 400, "cache": cache}
    events = _run(_config(tmp_path, policy=PER_EPOCH, epochs=1, teacher=teacher), tmp_path / cache)
    plain = _run(_config(tmp_path, policy=PER_EPOCH, epochs=1), tmp_path / "plain")
    (told,) = _of(events, "teacher_states_planned")
    assert told["kept"] == cache
    assert told["passes_with"] >= 0.4 * told["passes_without"]
    for place, values in measured(plain).items():
        assert measured(events)[place]["loss"] == pytest.approx(values["loss"], abs=1e-5)
