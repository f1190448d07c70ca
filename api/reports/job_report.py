"""A job's report: what was done, whether it helped, where it did harm, what it cost, and how to do it again. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from api.artifacts.flips import RIGHT_OR_WRONG
from api.artifacts.schemas import AnswerView, FlipView
from api.quantities import count
from api.reports import cost, done, outcome
from api.reports.blocks import (
    Block,
    Bullets,
    Code,
    Exhibit,
    Finding,
    Listing,
    Paragraph,
    Picture,
    Report,
    Section,
    Table,
    Tile,
    Tiles,
    Words,
)
from api.reports.job_facts import JobFacts, Worse
from api.reports.words import LOWER_IS_BETTER, MODELS, OTHERS, metric, time, value

_LONGEST = 1200


def job_report(facts: JobFacts, *, money: str | None, profile: Sequence[Picture], scores: Sequence[Picture]) -> Report:
    """`money`: what it cost, None where the operator has named no price; `profile` and `scores`: figures of these parts."""
    job = facts.job
    ended = "" if job.finished_at is None else f"ended {job.finished_at:%d %B %Y, %H:%M} UTC"
    return Report(
        title=job.name or f"Distillation of {done.teacher(facts)}",
        kind="Report on job",
        about=job.id,
        facts=[
            fact
            for fact in (str(job.state), ended, f"teacher: {done.teacher(facts)}", f"student: {done.student(facts)}")
            if fact
        ],
        sections=[
            _in_short(facts, money),
            done.section(facts, profile),
            outcome.section(facts, scores),
            *_where_worse(facts),
            cost.section(facts, money),
            *_warnings(facts),
            _again(facts),
        ],
    )


def _in_short(facts: JobFacts, money: str | None) -> Section:
    blocks: list[Block] = []
    if facts.job.failure is not None:
        blocks.append(
            Finding(
                tone="bad", title="The job failed.", words=f"{facts.job.failure.message} ({facts.job.failure.code})"
            )
        )
    elif facts.report is None:
        blocks.append(
            Finding(tone="unclear", title=f"The job is {facts.job.state}.", words="It has not scored its models.")
        )
    note = f"on a worker{f'; {money}' if money else ''}"
    shown = [
        *outcome.tiles(facts),
        *done.size(facts),
        Tile(label="Time", value=time(facts.spent.worker_s), note=note),
    ]
    blocks.append(Tiles(tiles=shown))
    blocks += outcome.findings(facts)
    if facts.report is not None:
        told = (
            f"Judged by {metric(facts.primary)}, which the recipe named before there was a result (evaluation.validation_metric). "
            "All scores follow below."
        )
        blocks.append(Paragraph(quiet=True, words=told))
    return Section(title="In short", anchor="short", blocks=blocks)


def _where_worse(facts: JobFacts) -> list[Section]:
    if not facts.worse:
        return []
    rows: list[list[Words]] = [
        [
            f"{metric(one.flips.metric)}, against {OTHERS[one.against]}",
            *map(count, (one.flips.counts.right_to_wrong, one.flips.counts.wrong_to_right)),
            *map(count, (one.flips.counts.worse, one.flips.counts.better, one.flips.counts.equal)),
        ]
        for one in facts.worse
    ]
    head = ["Score and other model", "Right → wrong", "Wrong → right", "Worse", "Better", "Same"]
    blocks: list[Block] = [
        Paragraph(
            words="Test rows on which the distilled student does worse than another model, whatever the average says."
        ),
        Table(head=head, rows=rows),
    ]
    for one in facts.worse[:2]:
        blocks += _shown(one)
    told = ("All of them: ", Code(f"cpd flips {facts.job.id} --against {facts.worse[0].against}"), ".")
    return [Section(title="Where it got worse", anchor="worse", blocks=[*blocks, Paragraph(quiet=True, words=told)])]


def _shown(one: Worse) -> list[Block]:
    if not one.shown:
        return [Paragraph(words=f"Against {OTHERS[one.against]} no row got worse in {metric(one.flips.metric)}.")]
    told = (
        f"The largest losses against {OTHERS[one.against]}, {count(len(one.shown))} of {count(len(one.flips.losses))}:"
    )
    return [Paragraph(words=told), *(_exhibit(row, one) for row in one.shown)]


def _exhibit(row: FlipView, one: Worse) -> Exhibit:
    name = one.flips.metric
    scale = 1.0 if name in LOWER_IS_BETTER else 100.0
    change = f"{metric(name)} {value(scale * row.before, name)} → {value(scale * row.after, name)}"
    if name in RIGHT_OR_WRONG:
        change = "right → wrong"
    answers = [(MODELS[subject], _cut(_text(row.answers[subject]))) for subject in (one.against, "student")]
    asked = [("Asked", _cut(row.prompt)), ("Right answer", _cut(str(row.reference)))]
    return Exhibit(title=f"Row {row.row}: {change}", parts=[*asked, *answers])


def _text(answer: AnswerView) -> str:
    return answer.text or "(nothing)"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({count(len(text) - _LONGEST)} characters more)"


def _warnings(facts: JobFacts) -> list[Section]:
    if not facts.warnings:
        return []
    items: list[Words] = [(f"{one.message} (", Code(one.code), ")") for one in facts.warnings]
    return [Section(title="Warnings", anchor="warnings", blocks=[Bullets(items=items)])]


def _again(facts: JobFacts) -> Section:
    job = facts.job
    blocks: list[Block] = []
    if facts.lineage is not None:
        lines = (
            f"cpd download {job.id} --out student",
            "bash student/reproduce.sh again ROWS              # on this machine",
            "bash student/reproduce.sh --service again ROWS    # as a job of the service",
        )
        told = "The download pins everything and compares the weights, bit for bit. ROWS is a folder with the files of rows."
        blocks += [Paragraph(words=told), Listing(text="\n".join(lines))]
    sent: Words = ("The job as it was sent; saved as a file, ", Code("cpd submit FILE"), " queues it again.")
    spec = json.dumps(job.spec, indent=1, ensure_ascii=False, sort_keys=False)
    blocks += [Paragraph(words=sent), Listing(text=spec, language="json")]
    return Section(title="Make it again", anchor="again", blocks=blocks)
