"""Every model's answers to every suite, graded and sealed one by one: a run that is stopped goes on with the first that is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cpd_engine import checkpoint
from cpd_engine.assessment import answer
from cpd_engine.data.encode import Ids
from cpd_engine.evaluation.grades import BySeed, Graded, means, suite_report, suite_samples
from cpd_engine.evaluation.grading import grade
from cpd_engine.events import Examinee, SuiteReport, SuiteScored, Warned
from cpd_engine.generate import Answer
from cpd_engine.models.decoder import Decoder
from cpd_engine.stages.context import Run
from cpd_engine.stages.questions import Suite

ROOT = "suites"
FILE = "answers.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One suite under one seed, with its prompts as the model reads them."""

    suite: Suite
    seed: int | None
    prompts: Sequence[Ids]


# Answers to a part: by asking the model, or as they were kept.
Answers = Callable[[Part, Callable[[], list[Answer]]], list[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model to be asked. `loaded` is called once, where anything is missing; `answers` may know what it said before."""

    name: Examinee
    loaded: Callable[[], Decoder]
    answers: Answers


def ask_now(_part: Part, ask: Callable[[], list[Answer]]) -> list[Answer]:
    """Answers of a model that nobody remembers anything of."""
    return ask()


def unit(subject: str, suite: Suite, seed: int | None) -> str:
    """Where a part's answers are sealed, under the run's directory."""
    return f"{ROOT}/{subject}/{suite.title}/{'greedy' if seed is None else f'seed-{seed}'}"


def answer_suites(run: Run[Any], suites: Sequence[Suite], subject: Subject, *, tokenizer: Any, end: int) -> None:
    """Seal the subject's answers to all suites, and tell of them, old and new. Raises StopRequested."""
    model = _Lazy(subject)
    for suite in suites:
        prompts: list[Ids] | None = None
        for seed in suite.seeds:
            path = unit(subject.name, suite, seed)
            if not run.stands(path):
                prompts = suite.prompts(tokenizer) if prompts is None else prompts
                _seal(run, model, Part(suite=suite, seed=seed, prompts=prompts), path, end)
            found = read(run.out / path)
            run.emit(
                SuiteScored(
                    subject=subject.name,
                    suite=suite.title,
                    task=suite.task,
                    seed=seed,
                    rows=len(found),
                    metrics=means(found),
                    settings_sha256=suite.sha256,
                )
            )


def report_suites(
    run: Run[Any], suites: Sequence[Suite], subjects: Sequence[Examinee], into: Path, *, seed: int
) -> tuple[SuiteReport, ...]:
    """The table's part of each suite, with every answer beside it as `<into>/suites/<suite>.jsonl`. `seed` is the bootstrap's."""
    reports = []
    for suite in suites:
        answers: dict[str, BySeed] = {
            subject: {one: read(run.out / unit(subject, suite, one)) for one in suite.seeds} for subject in subjects
        }
        reports.append(suite_report(suite.title, suite.task, answers, settings_sha256=suite.sha256, seed=seed))
        (into / ROOT).mkdir(exist_ok=True)
        checkpoint.write_jsonl(into / ROOT / f"{suite.title}.jsonl", suite_samples(suite.title, suite.rows, answers))
    return tuple(reports)


def read(path: Path) -> list[Graded]:
    """The graded answers of a sealed part."""
    return [
        Graded(
            row=line["row"],
            text=line["text"],
            tokens=tuple(line["tokens"]),
            finish_reason=line["finish_reason"],
            scores=line["scores"],
            parsed=line["parsed"],
        )
        for line in checkpoint.read_jsonl(path / FILE)
    ]


class _Lazy:
    """A subject whose model is loaded when it is first asked."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._decoder: Decoder | None = None

    @property
    def decoder(self) -> Decoder:
        if self._decoder is None:
            self._decoder = self.subject.loaded()
        return self._decoder


def _seal(run: Run[Any], model: _Lazy, part: Part, path: str, end: int) -> None:
    suite = part.suite
    label = f"{suite.title} of {model.subject.name}" + ("" if part.seed is None else f", seed {part.seed}")

    def ask() -> list[Answer]:
        _warn_of_long_prompts(run, model.decoder, part, label)
        return answer(
            model.decoder,
            part.prompts,
            [row.id for row in suite.rows],
            settings=suite.settings.generation,
            seed=part.seed or 0,
            end_ids=[end],
            runtime=run.runtime,
            on_progress=run.progress("evaluate", label),
            should_stop=run.should_stop,
            stops=suite.settings.stops,
        )

    answers = model.subject.answers(part, ask)
    with run.fleet.apart():
        if run.fleet.leads:
            _seal_graded(run, model.subject.name, part, path, _graded(run, suite, answers, label))


def _graded(run: Run[Any], suite: Suite, answers: Sequence[Answer], label: str) -> list[Graded]:
    grades = grade(
        suite.task,
        suite.rows,
        [one.text for one in answers],
        programs=suite.programs,
        on_progress=run.progress("evaluate", f"{label}, graded"),
        should_stop=run.should_stop,
    )
    return [
        Graded(
            row=row.id,
            text=said.text,
            tokens=said.tokens,
            finish_reason=said.finish_reason,
            scores=found.scores,
            parsed=found.parsed,
        )
        for row, said, found in zip(suite.rows, answers, grades, strict=True)
    ]


def _seal_graded(run: Run[Any], subject: Examinee, part: Part, path: str, found: Sequence[Graded]) -> None:
    suite, metrics = part.suite, means(found)
    told = {
        "subject": subject,
        "suite": suite.title,
        "task": suite.task,
        "seed": part.seed,
        "rows": len(found),
        "metrics": metrics,
        "settings": _plain(asdict(suite.settings) | {"generation": suite.settings.generation.model_dump()}),
        "settings_sha256": suite.sha256,
    }
    with run.sealing(path, path.replace("/", "-"), metrics=metrics) as draft:
        checkpoint.write_jsonl(draft / FILE, _lines(part, found))
        checkpoint.write_json(draft / "scores.json", told)


def _lines(part: Part, found: Sequence[Graded]) -> Iterator[Mapping[str, Any]]:
    for one in found:
        yield {"suite": part.suite.title, "task": part.suite.task, "seed": part.seed, **asdict(one)}


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """The batch size is of the machine, and no answer depends on it."""
    settings["generation"] = {k: v for k, v in settings["generation"].items() if k not in ("batch_size", "seed")}
    return settings


def _warn_of_long_prompts(run: Run[Any], decoder: Decoder, part: Part, label: str) -> None:
    bound = decoder.max_positions
    first = part.seed == part.suite.seeds[0]
    long = 0 if bound is None or not first else sum(len(prompt) >= bound for prompt in part.prompts)
    if long:
        told = f"{label}: {long} of {len(part.prompts)} prompts leave no room for an answer in {bound} positions; they score 0"
        run.emit(Warned(code="prompts_too_long", message=told))
