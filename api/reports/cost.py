"""What a job took: time by phase, tokens by model, money. Pure."""

from __future__ import annotations

from api.quantities import count, number
from api.reports.blocks import Block, Facts, Paragraph, Section, Table, Words
from api.reports.job_facts import JobFacts
from api.reports.queries import TRAINED
from api.reports.spent import Spent
from api.reports.words import MODELS, time

_PHASES = {
    "prepare": "Reading rows, finding models",
    "teacher_sft": "Fine-tuning the teacher",
    "profile": "Difficulty profile",
    "train": "Training",
    "evaluate": "Answers and scores",
    "export": "Writing the download",
}
_RECALLED = {
    "tuned_teacher": "the fine-tuned teacher",
    "student_scores": "the untrained student's losses",
    "student_attempts": "the untrained student's answers",
    "teacher_answers": "the teacher's answers to the test rows",
    "untouched_answers": "the untouched student's answers to the test rows",
}


def section(facts: JobFacts, money: str | None) -> Section:
    """The section on costs. `money`: None where the operator has named no price."""
    spent = facts.spent
    blocks: list[Block] = [Facts(rows=_told(facts, money)), _phases(spent)]
    if (lost := sum(phase.broken_off_s for phase in spent.phases)) >= 1.0:
        blocks.append(
            Paragraph(
                quiet=True,
                words=f"{time(lost)} of it went to work that broke off and was done again in a later attempt.",
            )
        )
    tokens = _tokens(facts)
    if tokens.rows:
        blocks.append(tokens)
    if facts.recalled:
        names = ", ".join(_RECALLED[name] for name in sorted(facts.recalled))
        told = f"Taken over from an earlier job of the same machine, whose time is not counted here: {names}."
        blocks.append(Paragraph(words=told))
    return Section(title="What it cost", anchor="cost", blocks=blocks)


def _told(facts: JobFacts, money: str | None) -> list[tuple[str, Words]]:
    spent, started, resources = facts.spent, facts.started, facts.config.resources
    found: list[tuple[str, Words]] = [
        (
            "On workers",
            f"{time(spent.worker_s)} in {count(spent.attempts)} attempt{'' if spent.attempts == 1 else 's'}",
        )
    ]
    if money is not None:
        found.append(("Money", money))
    if started is not None:
        each = f"{count(started.threads)} thread{'' if started.threads == 1 else 's'}"
        device = f"{started.processes} × {started.device}" if started.processes > 1 else started.device
        found.append(("Device", f"{device}, {started.precision}, {each}"))
        if started.device != "cpu":
            devices = resources.gpus * resources.nodes
            found.append(("GPU time", f"{time(devices * spent.worker_s)} on {count(devices)}"))
    if facts.report is not None and facts.report.judged is not None:
        judged = facts.report.judged.results
        asked = sum(one.prompt_tokens + one.completion_tokens for one in judged)
        prices = [one.cost for one in judged if one.cost is not None]
        cost = f", {sum(prices):.4g} by the operator's prices" if prices and len(prices) == len(judged) else ""
        found.append(("Judge", f"{count(asked)} tokens{cost}"))
    return found


def _phases(spent: Spent) -> Table:
    rows: list[list[Words]] = [
        [_PHASES[phase.phase], time(phase.wall_s), "–" if phase.cpu_s is None else time(phase.cpu_s)]
        for phase in spent.phases
    ]
    counted = [phase.cpu_s for phase in spent.phases if phase.cpu_s is not None]
    total = "–" if len(counted) < len(spent.phases) else time(sum(counted))
    rows.append(["Together", time(sum(phase.wall_s for phase in spent.phases)), total])
    return Table(head=["Phase", "Time", "Processor time"], rows=rows, strong=frozenset({len(rows) - 1}))


def _tokens(facts: JobFacts) -> Table:
    sums, steps = facts.spent.sums, {} if facts.report is None else facts.report.steps
    rows: list[list[Words]] = [
        [
            MODELS[trained],
            count(steps.get(trained)),
            number(sums.get(f"{trained}/tokens"), 0),
            number(sums.get(f"{trained}/processed_tokens"), 0),
            time(sums.get(f"{trained}/step_s")),
        ]
        for trained in TRAINED
        if f"{trained}/step_s" in sums
    ]
    return Table(head=["Trained", "Steps", "Supervised tokens", "All tokens", "Time in steps"], rows=rows)
