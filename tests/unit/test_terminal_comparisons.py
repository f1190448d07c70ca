"""Comparisons in the terminal: the spec's file, what is shown while they go and at their end; and the client's calls."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console

from api.client import Client
from api.jobs.states import JobState
from api.remote.comparisons import Comparison, ComparisonLine
from api.remote.transport import Patience
from api.remote.trouble import BadInput, Refused, ServerUnreachable
from api.terminal import comparison_tables
from api.terminal.comparison_specs import read_comparison
from api.terminal.comparison_watch import PlainScreen, differing, lines, show_comparison
from cpd_engine.evaluation.comparison import MemberRows, RunRows, SuiteRows, Terms, compare, compare_suite
from cpd_engine.events import Compared, ComparedSuite, MemberCosts, to_dict

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SPEC = """
base: {teacher: {tiny: gpt2}, student: {tiny: gpt2, layers: 1}, dataset: {train: rows.jsonl}, epochs: 2}
members: [{label: kld, set: {preset: kld}}, {label: cpd, set: {student: {tiny: gpt2, hidden: 32}}}]
seeds: [0, 1]
"""


def written(folder: Path, text: str = SPEC) -> Path:
    (folder / "rows.jsonl").write_text("{}")
    file = folder / "compare.yaml"
    file.write_text(text)
    return file


def test_files_of_the_base_are_found_beside_the_spec_and_replaced_by_ids(tmp_path: Path) -> None:
    found = read_comparison(written(tmp_path), {})
    assert found.base.files == {"train": tmp_path / "rows.jsonl"}
    spec = found.with_datasets({"train": "ds_87654321"})
    assert (spec.base.dataset.train, spec.seeds, spec.baseline_label) == ("ds_87654321", (0, 1), "kld")
    # Members go as they were written: the service merges them.
    assert spec.members[1].set == {"student": {"tiny": "gpt2", "hidden": 32}}
    assert spec.base.model_fields_set == {"teacher", "student", "dataset", "epochs"}
    assert read_comparison(written(tmp_path), {"train": "ds_12345678"}).base.files == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("epochs: 2", "epochs: 0"), "base.epochs: "),
        (("rows.jsonl", "absent.jsonl"), "base.dataset.train: there is no file"),
        (("base:", "bases:"), "has a base"),
        (("seeds: [0, 1]", "seeds: [0, 0]"), "seeds: each seed once"),
        (("label: kld", "label: 3"), "members.0.label: "),
        (("seeds: [0, 1]", "baseline: none"), "baseline: "),
    ],
    ids=["base", "no-file", "no-base", "seeds", "label", "baseline"],
)
def test_a_bad_spec_is_refused_in_one_line_before_anything_is_sent(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    with pytest.raises(BadInput) as caught:
        read_comparison(written(tmp_path, SPEC.replace(*change)), {})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_recipe_of_a_comparison_is_valid() -> None:
    spec = read_comparison(RECIPES / "compare.yaml", {}).with_datasets({})
    assert [member.label for member in spec.members] == ["sft", "kld", "srkl", "cpd"]
    assert (len(spec.seeds), spec.baseline_label) == (2, "sft")


def run(seed: int, state: str, **more: Any) -> dict[str, Any]:
    return {"job": f"job_{seed}", "seed": seed, "state": state, **more}


def comparison(*runs: dict[str, Any], **more: Any) -> Comparison:
    known = {"id": "cmp_1", "name": "two", "state": "running", "baseline": "kld", "created_at": "2026-01-01T00:00:00Z"}
    member = {"label": "kld", "runs": list(runs)}
    return Comparison.model_validate(
        known | {"budget": {"unit": "steps", "amount": 1200}, "members": [member], "seeds": [0, 1]} | more
    )


TRAINING = run(
    0, "running", phase="train", progress={"step": 40, "total_steps": 120, "eta_s": 83.0}, scores={"exact_match": 41.25}
)
QUEUED = run(1, "queued", queue_position=3)


def text_of(renderable: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(renderable)
    return out.getvalue()


def test_jobs_are_shown_by_member_and_seed_with_progress_and_eta() -> None:
    failed = run(1, "failed", failure={"code": "diverged", "message": "The loss is not finite."})
    text = text_of(comparison_tables.runs(comparison(TRAINING, QUEUED)))
    assert "two: running, 0 of 2 jobs over" in text
    [training] = [line for line in text.splitlines() if "40/120" in line]
    assert all(part in training for part in ("kld", "running", "train", "1:23", "41.2"))
    assert "number 3" in text
    assert "diverged" in text_of(comparison_tables.runs(comparison(TRAINING, failed)))
    assert "1,200 steps" in text_of(comparison_tables.facts(comparison(TRAINING)))


def test_changes_are_lines_and_progress_comes_at_intervals() -> None:
    later = comparison(TRAINING, run(1, "running", phase="prepare"))
    ended = comparison(run(0, "succeeded"), run(1, "succeeded"), state="succeeded", table_job="job_9")
    assert lines(None, comparison(TRAINING, QUEUED)) == ["kld, seed 0: running (train)", "kld, seed 1: queued"]
    assert lines(comparison(TRAINING, QUEUED), later) == ["kld, seed 1: running (prepare)"]
    assert "the table: succeeded" in lines(later, ended)
    told: list[str] = []
    ticks: Iterator[int] = iter(range(0, 1000, 20))
    screen = PlainScreen(told.append, lambda: float(next(ticks)), interval_s=30.0)
    for _ in range(4):
        screen(comparison(TRAINING, QUEUED))
    assert told == [*lines(None, comparison(TRAINING, QUEUED)), "kld, seed 0: 40/120 steps"]


def test_json_has_a_line_a_change_and_the_last() -> None:
    further = comparison(run(0, "running", phase="train", progress={"step": 80, "total_steps": 120}), QUEUED)
    views = [comparison(TRAINING, QUEUED), further, further]
    assert list(differing(views)) == [views[0], views[2]]
    assert list(differing(views[:1])) == views[:1]


def test_the_live_display_draws_the_jobs() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    last = show_comparison([comparison(TRAINING, QUEUED)], console, lambda: 0.0)
    assert last is not None
    assert "40/120 steps" in out.getvalue()


COSTS = MemberCosts(steps=120, supervised_tokens=9876, processed_tokens=20000, train_s=3.25, worker_s=12.5)


def rows_of(seed: int, student: list[float]) -> RunRows:
    by_subject = {"student": student, "teacher": [1.0] * len(student), "untouched": [0.0] * len(student)}
    return RunRows(
        seed=seed,
        rows=[f"r{place}" for place in range(len(student))],
        values={name: np.array([[value, value, 1.0 - value] for value in found]) for name, found in by_subject.items()},
        supervised=np.ones(len(student)),
    )


def made() -> Compared:
    base = [0.02 * place for place in range(30)]
    better = [value + 0.2 + 0.001 * place for place, value in enumerate(base)]
    kld = [rows_of(0, base), rows_of(1, [value + 0.02 for value in base])]
    members = [
        MemberRows(label="kld", runs=kld, costs=COSTS),
        MemberRows(label="cpd", runs=[rows_of(0, better)], failures=["diverged"], costs=COSTS),
    ]
    return compare(members, Terms(baseline="kld", seed=0), budget="120 optimizer steps")


def test_the_table_has_means_with_their_interval_differences_with_holm_gap_and_costs() -> None:
    table = made()
    text = text_of(comparison_tables.table(table))
    kld, cpd = (next(line for line in text.splitlines() if line.startswith(label)) for label in ("kld", "cpd"))
    # Seeds at 29 and 31: t(0.975, 1) of their standard error 1 is 12.7.
    assert "30.0 ± 12.7" in kld
    assert all(part in cpd for part in ("50.5", "+20.4", "< .001", "50%"))
    assert text.count("teacher") == text.count("untouched") == 3
    assert [line.split() for line in text.splitlines() if "9,876" in line] == [
        ["kld", "2", "120", "9,876", "3.2", "12.5"],
        ["cpd", "1", "120", "9,876", "3.2", "12.5"],
    ]
    assert "cpd: 1 of 2 seeds gave no student (diverged)" in text
    assert max(map(len, text.splitlines())) <= 80


def answered_suite() -> ComparedSuite:
    def of(label: str, student: float) -> MemberRows:
        values = {"student": student, "teacher": 0.75, "untouched": 0.25}
        rows = [f"r{place}" for place in range(8)]
        by_subject = {subject: np.full((8, 2), value) for subject, value in values.items()}
        return MemberRows(label=label, runs=[RunRows(seed=0, rows=rows, values=by_subject)])

    asked = SuiteRows(
        suite="own",
        task="custom",
        seeds=(10, 20),
        metrics=("rouge_l", "exact_match"),
        members=[of("kld", 0.5), of("cpd", 0.625)],
    )
    return compare_suite(asked, Terms(baseline="kld", seed=0))


def test_suites_are_shown_as_the_test_rows_are_with_what_is_not_in_the_table() -> None:
    found = replace(made(), suites=(answered_suite(),), notes=("The judge's word is elsewhere.",))
    lines = [line.rstrip() for line in text_of(comparison_tables.table(found)).splitlines()]
    at = lines.index("own: ROUGE-L on 8 rows, mean of 2 sampled answers")
    cells = {line.split()[0]: line.split()[1:] for line in lines[at + 2 : at + 6]}
    assert cells["kld"] == ["50.00", "50.00", "…", "50.00", "baseline", "50%"]
    assert cells["cpd"][:5] == ["62.50", "62.50", "…", "62.50", "+12.50"]
    assert cells["cpd"][-1] == "75%"
    assert (cells["teacher"], cells["untouched"]) == (["75.00"], ["25.00"])
    assert "own: exact match % on 8 rows, mean of 2 sampled answers" in lines
    assert lines[-1] == "The judge's word is elsewhere."
    assert max(map(len, lines)) <= 80


def test_a_table_without_its_baseline_says_so() -> None:
    members = [
        MemberRows(label="kld", runs=[], failures=["diverged"]),
        MemberRows(label="cpd", runs=[rows_of(0, [0.1, 0.2])]),
    ]
    found = compare(members, Terms(baseline="kld", seed=0), budget="a budget")
    text = text_of(comparison_tables.table(found))
    assert "the baseline, kld, has no student" in " ".join(text.split())


def test_an_id_in_the_list_is_never_cut() -> None:
    line = ComparisonLine(
        id="cmp_" + "f" * 32,
        state=JobState.RUNNING,
        baseline="a",
        members=("a", "b"),
        jobs={JobState.SUCCEEDED: 1, JobState.QUEUED: 1},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert line.id in text_of(comparison_tables.comparisons([line]))


class Script:
    """Answers requests one after the other; an exception is raised instead."""

    def __init__(self, *steps: httpx.Response | Exception) -> None:
        self.steps, self.requests = list(steps), list[httpx.Request]()
        self.waits_s: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def client(self) -> Client:
        patience = Patience(attempts=2, sleep=self.waits_s.append, chance=lambda: 0.0)
        return Client("http://cpd.test", "cpd_a_b", patience=patience, transport=httpx.MockTransport(self))


def answered(status: int = 200, **more: Any) -> httpx.Response:
    return httpx.Response(status, json=comparison(QUEUED, **more).model_dump(mode="json"))


def test_a_comparison_is_created_under_one_key_however_often_it_is_sent() -> None:
    script = Script(httpx.ReadTimeout("late"), answered(202))
    assert script.client().comparisons.create({"base": {}, "members": []}).id == "cmp_1"
    assert [(request.method, request.url.path) for request in script.requests] == [("POST", "/v1/comparisons")] * 2
    assert len({request.headers["idempotency-key"] for request in script.requests}) == 1
    assert json.loads(script.requests[1].content) == {"base": {}, "members": []}


def test_waiting_ends_with_the_table_and_survives_a_restart_of_the_service() -> None:
    broken = [httpx.ConnectError("refused")] * 4
    last = answered(state="succeeded", table=to_dict(made()))
    script = Script(answered(), *broken, answered(state="running"), last)
    found = script.client().comparisons.wait("cmp_1", every_s=3.0)
    assert (found.is_over, found.table) == (True, made())
    assert script.waits_s.count(3.0) == 2
    with pytest.raises(ServerUnreachable):
        Script(*broken[:2]).client().comparisons.wait("cmp_1")


def test_a_paused_comparison_is_not_waited_for() -> None:
    assert Script(answered(state="paused")).client().comparisons.wait("cmp_1").state == "paused"


def test_list_cancel_retable_and_figure_ask_what_they_say() -> None:
    line = {"id": "cmp_1", "state": "running", "baseline": "a", "created_at": "2026-01-01T00:00:00Z"}
    early = {"error": {"type": "x", "code": "artifact_not_ready", "message": "Wait.", "param": None, "request_id": "r"}}
    script = Script(
        httpx.Response(200, json={"data": [line]}),
        answered(requested="cancel"),
        answered(202),
        httpx.Response(200, content=b"picture"),
        httpx.Response(409, json=early),
    )
    comparisons = script.client().comparisons
    assert [one.id for one in comparisons.list()] == ["cmp_1"]
    assert comparisons.cancel("cmp_1").requested == "cancel"
    assert comparisons.retable("cmp_1").state == "running"
    assert comparisons.figure("cmp_1") == b"picture"
    with pytest.raises(Refused) as caught:
        comparisons.figure("cmp_1", "json")
    assert caught.value.exit_code == 6
    assert [f"{request.method} {request.url.path}" for request in script.requests] == [
        "GET /v1/comparisons",
        "POST /v1/comparisons/cmp_1/cancel",
        "POST /v1/comparisons/cmp_1/table",
        "GET /v1/comparisons/cmp_1/figure.png",
        "GET /v1/comparisons/cmp_1/figure.json",
    ]
