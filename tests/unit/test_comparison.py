"""The table of a comparison against values worked out by hand and by scipy, and the command that makes it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cpd_engine.config import BudgetSpec
from cpd_engine.evaluation.comparison import MemberRows, RunRows, SuiteRows, Terms, compare, compare_suite, mean_costs
from cpd_engine.events import Compared, MemberCosts, from_json
from cpd_engine.members import budget_in_words

NOTHING = MemberCosts(steps=None, supervised_tokens=None, processed_tokens=None, train_s=None, worker_s=None)
METRICS = ("exact_match", "rouge_l", "ce")


def run(seed: int, student: Sequence[float], *, rows: Sequence[str] | None = None) -> RunRows:
    """A run whose student has these values in every metric; the teacher has 1, the untouched student 0, and in CE the other way."""
    names = rows or [f"r{place}" for place in range(len(student))]
    ends = {"teacher": (1.0, 1.0, 0.0), "untouched": (0.0, 0.0, 1.0)}
    return RunRows(
        seed=seed,
        rows=names,
        values={subject: np.array([values] * len(names)) for subject, values in ends.items()}
        | {"student": np.array([[value] * len(METRICS) for value in student])},
        supervised=np.arange(1.0, 1.0 + len(names)),
    )


def member(label: str, *runs: RunRows, failures: Sequence[str] = ()) -> MemberRows:
    return MemberRows(label=label, runs=runs, failures=failures)


def table(*members: MemberRows, baseline: str = "base") -> Compared:
    return compare(members, Terms(baseline=baseline, seed=0), budget="so many steps")


def test_a_members_mean_is_over_seeds_and_its_intervals_are_of_seeds_and_of_rows() -> None:
    made = table(member("base", run(0, [0.0, 1.0]), run(1, [1.0, 1.0])))
    (line,) = made.members
    score = line.scores["exact_match"]
    assert (score.mean, score.by_seed) == (75.0, (50.0, 100.0))
    low, high = stats.t.interval(0.95, 1, loc=75.0, scale=stats.sem([50.0, 100.0]))
    assert score.seed_interval == pytest.approx((low, high))
    # Rows averaged over seeds are 50 and 100.
    assert score.row_interval == (50.0, 100.0)
    assert score.gap_closed == pytest.approx(0.75)
    assert line.against == {}
    assert (line.seeds, made.rows) == ((0, 1), 2)


def test_cross_entropy_is_weighed_by_tokens_and_its_gap_counts_downwards() -> None:
    (line,) = table(member("base", run(0, [0.2, 0.5]))).members
    assert line.scores["ce"].mean == pytest.approx((0.2 * 1 + 0.5 * 2) / 3)
    assert line.scores["ce"].gap_closed == pytest.approx(1 - 0.4)
    assert line.scores["ce"].seed_interval is None


def test_differences_are_paired_by_row_after_seeds_are_averaged_and_corrected_over_members() -> None:
    random = np.random.default_rng(0)
    held = random.uniform(0, 1, 40)
    better, alike = held + 0.1, held + random.normal(0, 0.2, 40)
    made = table(
        member("base", run(0, (held - 0.05).tolist()), run(1, (held + 0.05).tolist())),
        member("better", run(0, better.tolist())),
        member("alike", run(0, alike.tolist()), run(1, alike.tolist())),
    )
    against = {line.label: line.against for line in made.members}
    assert against["base"] == {}
    one, other = against["better"]["rouge_l"], against["alike"]["rouge_l"]
    assert one.difference == pytest.approx(10.0)
    rounded = [(100 * values).round(9) - (100 * held).round(9) for values in (better, alike)]
    p_values = [float(stats.wilcoxon(differences).pvalue) for differences in rounded]
    assert [one.p_value, other.p_value] == pytest.approx(p_values, rel=1e-3)
    assert one.p_holm == pytest.approx(2 * p_values[0], rel=1e-3)
    assert other.p_holm == pytest.approx(max(2 * p_values[0], p_values[1]), rel=1e-3)


def test_only_rows_that_all_finished_runs_have_scored_are_compared() -> None:
    made = table(
        member("base", run(0, [0.0, 1.0, 1.0], rows=["a", "b", "c"])),
        member("short", run(0, [1.0, 1.0], rows=["c", "b"])),
    )
    assert made.rows == 2
    assert [line.scores["exact_match"].mean for line in made.members] == [100.0, 100.0]
    assert made.members[1].against["exact_match"].p_value is None
    with pytest.raises(ValueError, match="no row in common"):
        table(member("base", run(0, [1.0], rows=["a"])), member("b", run(0, [1.0], rows=["b"])))


def test_a_member_that_failed_stays_in_the_table_and_a_failed_baseline_leaves_no_differences() -> None:
    made = table(member("base", failures=["diverged"]), member("other", run(0, [1.0]), failures=["cancelled"]))
    base, other = made.members
    assert (base.seeds, base.failures, base.scores, base.untouched) == ((), ("diverged",), {}, {})
    assert (other.failures, other.against) == (("cancelled",), {})
    assert other.scores["rouge_l"].mean == 100.0


def answers(seed: int, student: Sequence[float]) -> RunRows:
    """Of a suite with one metric."""
    ends = {"teacher": 1.0, "untouched": 0.0}
    return RunRows(
        seed=seed,
        rows=[f"r{place}" for place in range(len(student))],
        values={subject: np.full((len(student), 1), value) for subject, value in ends.items()}
        | {"student": np.array([[value] for value in student])},
    )


def test_a_suite_is_compared_as_the_test_rows_are_and_corrected_by_itself() -> None:
    random = np.random.default_rng(1)
    held = random.uniform(0, 0.5, 30)
    better, alike = held + random.uniform(0, 0.2, 30), held + random.normal(0, 0.1, 30)
    members = [
        member("base", answers(0, (held - 0.01).tolist()), answers(1, (held + 0.01).tolist())),
        member("gone", failures=["diverged"]),
        member("better", answers(0, better.tolist())),
        member("alike", answers(0, alike.tolist())),
    ]
    asked = SuiteRows(suite="sums", task="gsm8k", seeds=(), metrics=("accuracy",), members=members)
    made = compare_suite(asked, Terms(baseline="base", seed=0))
    assert (made.suite, made.task, made.rows, made.seeds, made.metrics) == ("sums", "gsm8k", 30, (), ("accuracy",))
    lines = {line.label: line for line in made.members}
    assert list(lines) == ["base", "better", "alike"]
    base = lines["base"].scores["accuracy"]
    assert base.mean == pytest.approx(100 * held.mean())
    assert base.by_seed == pytest.approx((100 * held.mean() - 1, 100 * held.mean() + 1))
    assert base.gap_closed == pytest.approx(held.mean())
    drawn = np.random.default_rng(0).choice(100 * held, (10_000, 30)).mean(axis=1)
    assert base.row_interval == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.5)
    p_values = [float(stats.wilcoxon((100 * one).round(9) - (100 * held).round(9)).pvalue) for one in (better, alike)]
    found = [lines[label].against["accuracy"] for label in ("better", "alike")]
    assert [one.p_value for one in found] == pytest.approx(p_values)
    assert found[0].p_holm == pytest.approx(2 * p_values[0])
    assert found[0].difference == pytest.approx(100 * (better - held).mean())


def test_costs_are_means_over_the_runs_that_know_them() -> None:
    known = MemberCosts(steps=10, supervised_tokens=100, processed_tokens=300, train_s=2.0, worker_s=9.0)
    longer = MemberCosts(steps=10, supervised_tokens=200, processed_tokens=300, train_s=4.0, worker_s=None)
    made = mean_costs([known, longer, NOTHING])
    assert (made.steps, made.supervised_tokens, made.train_s, made.worker_s) == (10.0, 150.0, 3.0, 9.0)
    assert mean_costs([]) == NOTHING


def test_the_budget_is_told_in_words() -> None:
    assert budget_in_words(BudgetSpec(amount=1200)) == "1,200 optimizer steps"
    told = budget_in_words(BudgetSpec(unit="tokens", epochs=1.5))
    assert told == "as many supervised tokens as 1.5 passes over all samples take"


def line(row: str, student: float) -> dict[str, Any]:
    answers = {"teacher": 1.0, "untouched": 0.0, "student": student}
    return {
        "row": row,
        "answers": {
            subject: {"exact_match": value, "rouge_l": value, "ce": 1.0 - value, "supervised": 3}
            for subject, value in answers.items()
        },
    }


def write(folder: Path) -> Path:
    """A table's spec over two members of two seeds, of which one run failed."""
    members = []
    for label, values in (("kld", (0.5, 0.75)), ("cpd", (0.75, None))):
        runs = []
        for seed, value in enumerate(values):
            run_folder = f"{label}-{seed}"
            if value is not None:
                (folder / run_folder).mkdir()
                lines = [json.dumps(line(f"r{i}", value * (1 + i) / 2)) + "\n" for i in range(2)]
                (folder / run_folder / "samples.jsonl").write_text("".join(lines))
            ended = (
                {"folder": None, "ended": "diverged"} if value is None else {"folder": run_folder, "ended": "succeeded"}
            )
            runs.append({"seed": seed, **ended, "steps": 40, "train_s": 1.5})
        members.append({"label": label, "runs": runs})
    spec = {"members": members, "baseline": "kld", "budget": {"unit": "steps", "epochs": 2.0}}
    path = folder / "table.json"
    path.write_text(json.dumps(spec))
    return path


def asked(spec: Path, suites: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]], **more: Any) -> Path:
    """The same with suites, of which every run's report has answers as a run of the engine leaves them."""
    found = json.loads(spec.read_text())
    for one in found["members"]:
        for told in one["runs"]:
            if told["folder"] is not None:
                (spec.parent / told["folder"] / "suites").mkdir()
                for suite in suites:
                    path = spec.parent / told["folder"] / "suites" / f"{suite['task']}.jsonl"
                    path.write_text("".join(json.dumps(row) + "\n" for row in answers))
    spec.write_text(json.dumps(found | {"suites": list(suites), **more}))
    return spec


def said(*values: float) -> dict[str, Any]:
    """A model's answers to a row, one a seed, the first of them also by itself."""
    each = [{"seed": 10 * n, "text": "a", "rouge_l": v, "exact_match": 0.0} for n, v in enumerate(values)]
    return each[0] | {"generations": each}


def carried_out(spec: Path, out: Path) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-m", "cpd_engine", "table", str(spec), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, [json.loads(text) for text in done.stdout.splitlines()]


def test_the_command_seals_table_and_figure_and_tells_the_table(tmp_path: Path) -> None:
    code, events = carried_out(write(tmp_path), tmp_path / "out")
    assert (code, [event["kind"] for event in events]) == (0, ["progressed", "checkpointed", "compared", "finished"])
    kld, cpd = events[2]["members"]
    assert (kld["seeds"], cpd["seeds"], cpd["failures"]) == ([0, 1], [0], ["diverged"])
    assert kld["scores"]["exact_match"]["by_seed"] == [37.5, 56.25]
    assert cpd["costs"]["steps"] == 40
    assert json.loads((tmp_path / "out/table/table.json").read_text()) == events[2]
    shown = json.loads((tmp_path / "out/table/figure.json").read_text())["panels"]
    assert [panel["metric"] for panel in shown] == list(METRICS)
    assert [mark["label"] for mark in shown[0]["marks"]] == ["kld", "cpd"]
    assert shown[0]["marks"][0]["interval"] == kld["scores"]["exact_match"]["row_interval"]
    picture = (tmp_path / "out/table/figure.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert carried_out(tmp_path / "table.json", tmp_path / "again")[0] == 0
    assert (tmp_path / "again/table/figure.png").read_bytes() == picture


def test_the_command_compares_suites_by_rows_averaged_over_their_seeds_and_says_where_the_judge_s_word_is(
    tmp_path: Path,
) -> None:
    rows = [
        {"row": name, "answers": {"teacher": said(1.0, 1.0), "untouched": said(0.0, 0.0), "student": said(*values)}}
        for name, values in (("a", (0.25, 0.75)), ("b", (1.0, 0.5)))
    ]
    suites = [{"task": "vicuna", "data": "ds_12345678", "seeds": [10, 20]}]
    code, events = carried_out(asked(write(tmp_path), suites, rows, judged=["vicuna"]), tmp_path / "out")
    assert code == 0
    [made] = [event for event in events if event["kind"] == "compared"]
    [suite] = made["suites"]
    assert (suite["suite"], suite["rows"], suite["seeds"]) == ("vicuna", 2, [10, 20])
    assert suite["metrics"] == ["rouge_l", "exact_match"]
    kld, cpd = suite["members"]
    assert (kld["scores"]["rouge_l"]["by_seed"], kld["scores"]["rouge_l"]["mean"]) == ([62.5, 62.5], 62.5)
    assert kld["scores"]["rouge_l"]["row_interval"] == [50.0, 75.0]
    assert (cpd["against"]["rouge_l"]["difference"], cpd["against"]["rouge_l"]["p_holm"]) == (0.0, None)
    assert (kld["teacher"], kld["scores"]["rouge_l"]["gap_closed"]) == ({"rouge_l": 100.0, "exact_match": 0.0}, 0.625)
    [note] = made["notes"]
    assert "vicuna" in note
    assert "cpd show" in note
    shown = json.loads((tmp_path / "out/table/figure.json").read_text())["panels"]
    assert [(panel["suite"], panel["metric"]) for panel in shown[3:]] == [
        ("vicuna", "rouge_l"),
        ("vicuna", "exact_match"),
    ]


def test_rows_of_one_name_that_ask_otherwise_are_not_compared(tmp_path: Path) -> None:
    spec = write(tmp_path)
    rows = tmp_path / "cpd-0" / "samples.jsonl"
    lines = [json.loads(text) | {"instruction": "another"} for text in rows.read_text().splitlines()]
    rows.write_text("".join(json.dumps(one) + "\n" for one in lines))
    code, events = carried_out(spec, tmp_path / "out")
    assert (code, events[-1]["code"]) == (20, "nothing_to_compare")


def test_a_table_of_an_older_version_has_no_suites() -> None:
    older = {"kind": "compared", "rows": 12, "baseline": "kld", "budget": "9 optimizer steps", "members": []}
    told = from_json(json.dumps(older))
    assert isinstance(told, Compared)
    assert (told.suites, told.notes) == ((), ())


def test_a_table_of_nothing_is_refused_with_its_code(tmp_path: Path) -> None:
    spec = write(tmp_path)
    found = json.loads(spec.read_text())
    for one in found["members"]:
        for told in one["runs"]:
            told |= {"folder": None, "ended": "cancelled"}
    spec.write_text(json.dumps(found))
    code, events = carried_out(spec, tmp_path / "out")
    assert (code, events[-1]["kind"], events[-1]["code"]) == (20, "failed", "nothing_to_compare")
    spec.write_text("{}")
    assert carried_out(spec, tmp_path / "out")[1][-1]["code"] == "validation_error"
