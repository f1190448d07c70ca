"""What a comparison's report says, and that it says no more than its table does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api.comparisons.schemas import BudgetView, ComparisonView, MemberView, RunView
from api.jobs.schemas import FailureView, Progress
from api.jobs.states import JobState, Requested
from api.reports import html, markdown
from api.reports.comparison_facts import ComparisonFacts
from api.reports.comparison_report import comparison_report
from cpd_engine.config import RunConfig
from cpd_engine.events import Compared, ComparedSuite, SuiteMember
from tests.unit.reports.facts import HOSTILE, NOW, SPEC
from tests.unit.web import figure_values as values

LABELS = ("kld", "cpd", "rkl", "taid")


def run(seed: int, *, failed: bool) -> RunView:
    return RunView(
        job=f"job_{seed}",
        seed=seed,
        state=JobState.FAILED if failed else JobState.SUCCEEDED,
        requested=Requested.NONE,
        phase=None,
        progress=Progress(),
        queue_position=None,
        started_at=None,
        finished_at=None,
        failure=FailureView(code="diverged", message=HOSTILE) if failed else None,
        scores=None,
    )


def view(table: Compared | None, **changes: Any) -> ComparisonView:
    fields: dict[str, Any] = {
        "id": "cmp_" + "0" * 32,
        "name": HOSTILE,
        "metadata": {},
        "state": JobState.SUCCEEDED,
        "requested": Requested.NONE,
        "baseline": "kld",
        "budget": BudgetView(unit="steps", amount=100, epochs=None),
        "seeds": [0, 1],
        "created_at": NOW,
        "members": [
            MemberView(label=label, set={}, runs=[run(seed, failed=label == "taid") for seed in (0, 1)], scores=None)
            for label in LABELS
        ],
        "table_job": None,
        "table": table,
        "failure": None,
    }
    return ComparisonView(**(fields | changes))


def text(table: Compared | None, **changes: Any) -> str:
    configs = {label: RunConfig.model_validate(SPEC | {"preset": label}).resolved() for label in LABELS}
    facts = ComparisonFacts(view=view(table, **changes), configs=configs, spec={"base": SPEC, "name": HOSTILE})
    report = comparison_report(facts, money="12.40 EUR", pictures=[])
    assert "<script>" not in html.render(report)
    return markdown.render(report)


def test_a_member_is_better_only_where_the_adjusted_test_says_so() -> None:
    told = text(values.table())

    assert "**cpd did better than kld.** ROUGE-L +5.0 points" in told
    assert "**No difference between rkl and kld is shown.**" in told
    assert "p = .040 after Holm's correction" in told
    assert "| **kld** | 30.0 | 26.0 to 35.0 | – | baseline |" in told
    assert "| Teacher | 60.0 |" in told
    assert "12.40 EUR" in told


def test_runs_that_gave_no_student_say_why() -> None:
    told = text(values.table())

    assert "- **taid, seed 1**: failed, \\<img src=x" in told
    assert "(diverged)" in told


def test_suites_have_tables_of_their_own_and_notes_are_told() -> None:
    made = values.table()
    members = tuple(
        SuiteMember(
            label=member.label,
            scores={"accuracy": member.scores["rouge_l"]},
            against={"accuracy": member.against["rouge_l"]} if member.against else {},
            teacher={"accuracy": 77.0},
            untouched={"accuracy": 11.0},
        )
        for member in made.members
        if member.scores
    )
    suite = ComparedSuite(suite="sums", task="gsm8k", rows=40, seeds=(), metrics=("accuracy",), members=members)
    told = text(replace(made, suites=(suite,), notes=("Judges are in each job's report.",)))

    assert "**accuracy, %** on 40 rows of the suite sums, answered greedily" in told
    assert "| Teacher | 77.0 |" in told
    assert "- Judges are in each job's report." in told


def test_one_seed_and_few_rows_are_said_to_be_few() -> None:
    told = text(replace(values.table(), rows=12), seeds=[0])

    assert "**One seed.**" in told
    assert "**Few test rows.**" in told
    assert "**One seed.**" not in text(values.table())


def test_without_a_table_it_says_why() -> None:
    failure = FailureView(code="no_member_finished", message="No job of the comparison came to its end.")
    told = text(None, state=JobState.FAILED, failure=failure)

    assert "The comparison is failed and has no table.** No job of the comparison came to its end." in told
    assert "Which was better?" not in told


def test_a_baseline_without_a_student_is_named() -> None:
    made = values.table()
    members = tuple(
        replace(one, scores={}, against={}) if one.label == "kld" else replace(one, against={}) for one in made.members
    )

    assert "**The baseline, kld, is missing.**" in text(replace(made, members=members))
