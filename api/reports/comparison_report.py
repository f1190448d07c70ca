"""A comparison's report: what its members did, which of them was better and by how much, and what each took. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from api.quantities import count, number, p_value
from api.reports import standings
from api.reports.blocks import (
    Block,
    Bullets,
    Code,
    Facts,
    Finding,
    Listing,
    Paragraph,
    Picture,
    Report,
    Section,
    Strong,
    Table,
    Tone,
    Words,
)
from api.reports.comparison_facts import ComparisonFacts
from api.reports.methods import explained, model
from api.reports.words import (
    FEW_ROWS,
    LOWER_IS_BETTER,
    SIGNIFICANT,
    UNITS,
    metric,
    signed,
    signed_span,
    time,
)
from cpd_engine.events import Compared, ComparedMember, MemberAgainst

_TITLES: dict[Tone, str] = {
    "good": "{} did better than {}.",
    "bad": "{} did worse than {}.",
    "unclear": "No difference between {} and {} is shown.",
}


def comparison_report(facts: ComparisonFacts, *, money: str | None, pictures: Sequence[Picture]) -> Report:
    """`money`: what all of it cost, None where the operator has named no price; `pictures`: figures of the table."""
    view, table = facts.view, facts.view.table
    sections = [_in_short(facts)]
    sections.append(_done(facts))
    if table is not None:
        sections += [standings.section(table, pictures), _cost(table, money)]
    sections += [*_failed(facts), _again(facts)]
    return Report(
        title=view.name or f"{len(view.members)} methods compared",
        kind="Report on comparison",
        about=view.id,
        facts=[
            str(view.state),
            f"begun {view.created_at:%d %B %Y, %H:%M} UTC",
            f"{count(len(view.members))} members × {count(len(view.seeds))} seeds",
            f"baseline: {view.baseline}",
        ],
        sections=sections,
    )


def primary(facts: ComparisonFacts) -> str:
    """The score that the members chose their weights by."""
    return facts.configs[facts.view.baseline].evaluation.validation_metric


def outcome_of(found: MemberAgainst, name: str) -> Tone:
    """Better or worse only where the interval leaves zero out and the adjusted test says so too."""
    low, high = found.interval
    if found.p_holm is None or found.p_holm > SIGNIFICANT or low <= 0 <= high:
        return "unclear"
    return "good" if (found.difference < 0) == (name in LOWER_IS_BETTER) else "bad"


def _in_short(facts: ComparisonFacts) -> Section:
    view, table, name = facts.view, facts.view.table, primary(facts)
    if table is None:
        told = view.failure.message if view.failure is not None else "It was ended before it had a table."
        ended = Finding(tone="bad", title=f"The comparison is {view.state} and has no table.", words=told)
        return Section(title="In short", anchor="short", blocks=[ended])
    blocks: list[Block] = [
        _finding(member, found, table, name)
        for member in table.members
        if (found := member.against.get(name)) is not None
    ]
    if not any(member.label == table.baseline and member.scores for member in table.members):
        told = "Its jobs gave no student, so nothing is held against it."
        blocks.append(Finding(tone="bad", title=f"The baseline, {table.baseline}, is missing.", words=told))
    if len(view.seeds) == 1:
        told = "The intervals are those of the rows. How far another seed would move a member, one seed does not tell."
        blocks.append(Finding(tone="unclear", title="One seed.", words=told))
    if table.rows < FEW_ROWS:
        told = f"{count(table.rows)} test rows decide little."
        blocks.append(Finding(tone="unclear", title="Few test rows.", words=told))
    blocks.append(
        Paragraph(
            quiet=True,
            words=f"Judged by {metric(name)}, by which every job also chose its weights. All scores follow below.",
        )
    )
    return Section(title="In short", anchor="short", blocks=blocks)


def _finding(member: ComparedMember, found: MemberAgainst, table: Compared, name: str) -> Finding:
    tone = outcome_of(found, name)
    p = "no row differs" if found.p_holm is None else f"p {_p(found.p_holm)} after Holm's correction"
    told = (
        f"{metric(name)} {signed(found.difference, name)} {UNITS.get(name, 'points')}, "
        f"95 % interval {signed_span(found.interval, name)}, {p}; "
        f"{count(table.rows)} rows, {count(len(member.seeds))} seed{'' if len(member.seeds) == 1 else 's'}."
    )
    return Finding(tone=tone, title=_TITLES[tone].format(member.label, table.baseline), words=told)


def _p(found: float) -> str:
    told = p_value(found)
    return told if told.startswith("<") else f"= {told}"


def _done(facts: ComparisonFacts) -> Section:
    view, config = facts.view, facts.configs[facts.view.baseline]
    budget = view.budget
    amount = (
        f"{count(budget.amount)} {budget.unit}"
        if budget.amount is not None
        else f"as many {budget.unit} as {budget.epochs:g} passes over all samples take"
    )
    rows: list[tuple[str, Words]] = [
        ("Teacher", model(config.teacher)),
        ("Student before training", model(config.student)),
        ("Budget of every student", amount),
        ("Seeds", ", ".join(map(str, view.seeds))),
    ]
    items: list[Words] = [(Strong(label), f": {explained(found)}") for label, found in facts.configs.items()]
    told = (
        "All members learn from the same rows for the same budget and answer the same test rows; teacher and student are the baseline's "
        "unless a member names others. Their methods:"
    )
    return Section(
        title="What was done", anchor="done", blocks=[Facts(rows=rows), Paragraph(words=told), Bullets(items=items)]
    )


def _cost(table: Compared, money: str | None) -> Section:
    rows: list[list[Words]] = [
        [
            member.label,
            count(len(member.seeds)),
            number(member.costs.steps, 0),
            number(member.costs.supervised_tokens, 0),
            number(member.costs.processed_tokens, 0),
            time(member.costs.train_s),
            time(member.costs.worker_s),
        ]
        for member in table.members
    ]
    head = ["Member", "Seeds", "Steps", "Supervised tokens", "All tokens", "Time in steps", "On a worker"]
    told = (
        "Of one run, on average over those that finished. A run that took over another's work, such as the tuned teacher, is the "
        "shorter for it."
    )
    blocks: list[Block] = [Table(head=head, rows=rows), Paragraph(quiet=True, words=told)]
    if money is not None:
        blocks.insert(0, Facts(rows=[("Money, all runs together", money)]))
    return Section(title="What it cost", anchor="cost", blocks=blocks)


def _failed(facts: ComparisonFacts) -> list[Section]:
    items: list[Words] = [
        (
            Strong(f"{member.label}, seed {run.seed}"),
            f": {run.state}",
            f", {run.failure.message} ({run.failure.code})" if run.failure else "",
        )
        for member in facts.view.members
        for run in member.runs
        if str(run.state) in ("failed", "cancelled")
    ]
    return [Section(title="Runs without a student", anchor="failed", blocks=[Bullets(items=items)])] if items else []


def _again(facts: ComparisonFacts) -> Section:
    told: Words = ("The comparison as it was sent; saved as a file, ", Code("cpd compare FILE"), " queues it again.")
    spec = json.dumps(facts.spec, indent=1, ensure_ascii=False, sort_keys=False)
    return Section(
        title="Make it again", anchor="again", blocks=[Paragraph(words=told), Listing(text=spec, language="json")]
    )
