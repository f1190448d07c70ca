"""What a job's report says, and that it says no more than its numbers do."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from api.jobs.schemas import FailureView
from api.reports import html, markdown
from api.reports.blocks import Finding, Report
from api.reports.job_report import job_report
from api.reports.methods import explained
from cpd_engine.config import RunConfig
from cpd_engine.presets import PRESETS
from tests.unit.reports.facts import SPEC, job_facts, job_view, pair, reported


class Seen(HTMLParser):
    """The elements of a page and the addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action")]


def report(**changes: Any) -> Report:
    return job_report(job_facts(**changes), money="4.97 EUR", profile=[], scores=[])


def findings(found: Report) -> dict[str, str]:
    return {
        block.title: block.tone for section in found.sections for block in section.blocks if isinstance(block, Finding)
    }


def test_it_says_what_was_done_whether_it_helped_where_it_did_harm_and_what_it_cost() -> None:
    text = markdown.render(report())

    for told in (
        "Training helped.",
        "The student is behind its teacher.",
        "No gain over plain fine-tuning is shown.",
        "ROUGE-L +24.0 points, 95 % interval +20.0 to +28.0, p \\< .001, 200 rows",
        "80 % (of the way from the untouched student to the teacher in ROUGE-L)",
        "| exact match, against the untouched student | 1 | 0 | 1 | 0 | 0 |",
        "4.97 EUR",
        "2 min 20 s of it went to work that broke off",
        "Taken over from an earlier job",
        "rows: not stated",
        "reproduce.sh",
    ):
        assert told in text, told


@pytest.mark.parametrize(
    ("difference", "interval", "p", "title", "tone"),
    [
        (3.0, (1.0, 5.0), 0.01, "Training helped.", "good"),
        (-3.0, (-5.0, -1.0), 0.01, "Training made the student worse.", "bad"),
        (3.0, (-1.0, 7.0), 0.01, "No difference from the untouched student is shown.", "unclear"),
        (3.0, (1.0, 5.0), 0.06, "No difference from the untouched student is shown.", "unclear"),
        (0.0, (0.0, 0.0), None, "No difference from the untouched student is shown.", "unclear"),
    ],
)
def test_it_claims_a_difference_only_where_interval_and_test_agree(
    difference: float, interval: tuple[float, float], p: float | None, title: str, tone: str
) -> None:
    found = report(report=reported(comparisons=(pair("untouched", "rouge_l", difference, interval, p),)))

    assert findings(found)[title] == tone


def test_less_cross_entropy_is_better() -> None:
    config = RunConfig.model_validate(
        SPEC | {"evaluation": {"validation_metric": "ce", "baselines": ["sft"]}}
    ).resolved()

    assert findings(report(config=config))["Training helped."] == "good"


def test_a_lead_that_may_be_none_is_not_divided_by() -> None:
    close = {
        "teacher": {"rouge_l": (50.0, 60.0)},
        "untouched": {"rouge_l": (45.0, 55.0)},
        "student": {"rouge_l": (50.0, 60.0)},
    }
    text = markdown.render(report(report=reported(intervals=close)))

    assert "too close in ROUGE-L for a share to mean anything" in text
    assert "of the way from the untouched student" not in text


def test_a_teacher_that_does_not_lead_leaves_nothing_to_win() -> None:
    assert "there is nothing to win" in markdown.render(report(report=reported(gap_closed={})))


def test_without_a_twin_it_says_what_the_job_cannot_say() -> None:
    scores = {name: values for name, values in reported().scores.items() if name != "sft"}
    found = report(report=reported(scores=scores, comparisons=()))

    assert findings(found)["Whether the teacher was needed is not known."] == "unclear"


def test_few_rows_are_said_to_be_few() -> None:
    assert "Few test rows." in findings(report(report=reported(rows=12)))
    assert "Few test rows." not in findings(report())


def test_a_job_that_failed_says_why_and_has_no_scores() -> None:
    facts = job_facts(report=None, worse=[], exported=None, lineage=None)
    failed = job_view(
        facts.config, state="failed", failure=FailureView(code="diverged", message="the loss is no number")
    )
    found = job_report(replace(facts, job=failed), money=None, profile=[], scores=[])

    assert findings(found) == {"The job failed.": "bad"}
    assert "the loss is no number (diverged)" in markdown.render(found)


def test_nothing_that_a_user_wrote_is_markup_on_the_page() -> None:
    page = html.render(report())
    seen = Seen()
    seen.feed(page)

    assert not seen.tags & {"script", "img", "iframe", "object", "link", "form", "b", "textarea"}
    assert not [name for name in seen.attributes if name.startswith("on")]
    assert all(address.startswith("#") for address in seen.addresses)
    assert "&lt;script&gt;alert(2)&lt;/script&gt;" in page


def test_the_page_is_one_file_that_asks_for_nothing() -> None:
    page = html.render(report())

    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"url\((?!#)|@import|https?://", page)


def test_nothing_that_a_user_wrote_is_markup_in_the_text() -> None:
    text = markdown.render(report())
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)

    assert "# \\<b\\>mine\\</b\\> \\| \\*yours\\*" in outside
    for meant in ("<img", "<script", "](javascript", "<b>", "\n# h"):
        assert not re.search(rf"(?<!\\){re.escape(meant)}", outside), meant


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    text = markdown.render(report())
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_method_is_told_in_words(preset: str) -> None:
    config = RunConfig.model_validate(SPEC | {"preset": preset}).resolved()
    text = explained(config)

    assert text.endswith(".")
    assert ("plain fine-tuning" in text) == (preset == "sft")
    assert "None" not in text
