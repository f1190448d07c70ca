"""What the operator's judge says of the student's answers: asked by the leader, sealed in parts, so that no verdict is paid for twice."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cpd_engine import checkpoint
from cpd_engine.config import Opponent, RunConfig
from cpd_engine.errors import ConfigInvalid, JudgeUnavailable
from cpd_engine.evaluation.judge import Judgement, JudgeSettings, Pair, judge
from cpd_engine.events import JudgedAgainst, JudgeReport, Progressed, Warned
from cpd_engine.inputs import Inputs, JudgeEndpoint
from cpd_engine.stages.context import Run
from cpd_engine.stages.questions import Suite
from cpd_engine.stages.suites import read, unit

ROOT = "judged"
# Pairs that are sealed together: what another machine that takes the run over would have to ask again, at most.
PART = 64
# Where answers are kept until their part is sealed.
_JOURNALS = "judging"
# How often a judge that takes its time is told to be at work still: an engine that is silent for long is taken to hang.
_TELL_S = 30.0


def require_judge(config: RunConfig, inputs: Inputs) -> None:
    """Raises ConfigInvalid where a judge is asked for and there is none."""
    if config.evaluation.judge is not None and inputs.judge is None:
        raise ConfigInvalid("evaluation.judge: no judge is set here; the operator can name one, or leave it out")


def judge_answers(run: Run, suites: Sequence[Suite]) -> JudgeReport | None:
    """The verdicts on the student's answers, once all answers stand; None where none are asked for.

    A judge that cannot be had is warned of and told in the report: the answers stay, and the next time it is asked for the rest.
    Collective; raises StopRequested.
    """
    spec, endpoint = run.config.evaluation.judge, run.inputs.judge
    if spec is None or endpoint is None:
        return None
    found: JudgeReport | None = None
    with run.fleet.apart():
        if run.fleet.leads:
            found = _judged(run, [suite for suite in suites if suite.title in run.config.evaluation.judged], endpoint)
    return run.fleet.told(found)


def _judged(run: Run, suites: Sequence[Suite], endpoint: JudgeEndpoint) -> JudgeReport:
    assert run.config.evaluation.judge is not None
    asked = [(suite, other) for suite in suites for other in run.config.evaluation.judge.against]
    results: list[JudgedAgainst] = []
    unavailable = None
    try:
        for suite, other in asked:
            verdicts = _against(run, suite, other, endpoint)
            results.append(verdicts)
    except JudgeUnavailable as fault:
        unavailable = str(fault)
        told = f"evaluation.judge: {fault}; the report goes without, and a run that is started again asks for what is missing"
        run.emit(Warned(code="not_judged", message=told))
    return JudgeReport(model=endpoint.model, results=tuple(results), unavailable=unavailable)


def _against(run: Run, suite: Suite, other: Opponent, endpoint: JudgeEndpoint) -> JudgedAgainst:
    pairs = _pairs(run, suite, other)
    parts = []
    for start in range(0, len(pairs), PART):
        path = f"{ROOT}/{suite.title}/{other}/{start:08d}"
        if not _stands(run, path, endpoint.model):
            _seal_part(run, path, pairs[start : start + PART], endpoint, _telling(run, suite, other, start, len(pairs)))
        parts.append(checkpoint.read_json(run.out / path / "scores.json"))
    return _sum(suite.title, other, parts)


def _pairs(run: Run, suite: Suite, other: Opponent) -> list[Pair]:
    """The answers under the first seed, side by side."""
    ours, theirs = (read(run.out / unit(subject, suite, suite.seeds[0])) for subject in ("student", other))
    return [
        Pair(id=row.id, question=f"{row.instruction}\n{row.input}".strip(), ours=one.text, theirs=opposed.text)
        for row, one, opposed in zip(suite.rows, ours, theirs, strict=True)
    ]


def _stands(run: Run, path: str, model: str) -> bool:
    """Whether the part is sealed, and by this same judge."""
    return run.sound(path) and checkpoint.read_json(run.out / path / "scores.json")["model"] == model


def _seal_part(
    run: Run, path: str, pairs: Sequence[Pair], endpoint: JudgeEndpoint, tell: Callable[[int, int], None]
) -> None:
    journal = run.out / _JOURNALS / f"{path.removeprefix(ROOT + '/').replace('/', '-')}.jsonl"
    journal.parent.mkdir(exist_ok=True)
    found = judge(
        pairs,
        endpoint=endpoint,
        settings=JudgeSettings(),
        journal=journal,
        on_progress=tell,
        should_stop=run.should_stop,
    )
    with run.sealing(path, path.replace("/", "-")) as draft:
        checkpoint.write_jsonl(draft / "verdicts.jsonl", map(asdict, found.pairs))
        shutil.copyfile(journal, draft / "answers.jsonl")
        checkpoint.write_json(draft / "scores.json", {"model": endpoint.model, **_counts(found)})
    journal.unlink()


def _counts(found: Judgement) -> dict[str, Any]:
    return {
        "pairs": len(found.pairs),
        "valid": found.valid,
        "wins": found.count("win"),
        "ties": found.count("tie"),
        "losses": found.count("loss"),
        "disagreements": found.disagreements,
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "errors": found.errors,
        "cost": found.cost,
    }


def _sum(suite: str, other: Opponent, parts: Sequence[Mapping[str, Any]]) -> JudgedAgainst:
    def of(name: str) -> int:
        return sum(int(part[name]) for part in parts)

    costs = [part["cost"] for part in parts]
    errors = sum((Counter(part["errors"]) for part in parts), Counter[str]())
    valid = of("valid")
    return JudgedAgainst(
        suite=suite,
        subject=other,
        pairs=of("pairs"),
        valid=valid,
        wins=of("wins"),
        ties=of("ties"),
        losses=of("losses"),
        disagreements=of("disagreements"),
        errors=dict(sorted(errors.items())),
        win_rate=100.0 * (of("wins") + of("ties") / 2) / valid if valid else None,
        prompt_tokens=of("prompt_tokens"),
        completion_tokens=of("completion_tokens"),
        cost=None if None in costs else sum(costs),
    )


def _telling(run: Run, suite: Suite, other: Opponent, start: int, total: int) -> Callable[[int, int], None]:
    """Progress in questions, of which a pair has two; told when it moves, and now and then."""
    last, told_at = -1, run.clock()

    def tell(done: int, _of: int) -> None:
        nonlocal last, told_at
        if done != last or run.clock() - told_at >= _TELL_S:
            last, told_at = done, run.clock()
            label = f"{suite.title} of student against {other}, judged"
            run.emit(Progressed(phase="evaluate", label=label, done=2 * start + done, total=2 * total))

    return tell
