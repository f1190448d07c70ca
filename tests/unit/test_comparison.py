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
from cpd_engine.evaluation.comparison import MemberRows, RunRows, compare, mean_costs
from cpd_engine.events import Compared, MemberCosts
from cpd_engine.members import budget_in_words

NOTHING = MemberCosts(steps=None, supervised_tokens=None, processed_tokens=None, train_s=None, worker_s=None)
METRICS = ("exact_match", "rouge_l", "ce")


def run(
    seed: int, student: Sequence[float], *, rows: Sequence[str] | None = None, costs: MemberCosts = NOTHING
) -> RunRows:
    """A run whose student has these values in every metric; the teacher has 1, the untouched student 0, and in CE the other way."""
    names = rows or [f"r{place}" for place in range(len(student))]
    of = {"teacher": (1.0, 1.0, 0.0), "untouched": (0.0, 0.0, 1.0)}
    ends = {subject: dict(zip(METRICS, values, strict=True)) for subject, values in of.items()}
    return RunRows(
        seed=seed,
        values={
            name: {**ends, "student": dict.fromkeys(METRICS, value)} for name, value in zip(names, student, strict=True)
        },
        supervised={name: 1.0 + place for place, name in enumerate(names)},
        costs=costs,
    )


def member(label: str, *runs: RunRows, failures: Sequence[str] = ()) -> MemberRows:
    return MemberRows(label=label, runs=runs, failures=failures)


def table(*members: MemberRows, baseline: str = "base") -> Compared:
    return compare(members, baseline=baseline, budget="so many steps", seed=0)


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
    with pytest.raises(ValueError, match="no test row in common"):
        table(member("base", run(0, [1.0], rows=["a"])), member("b", run(0, [1.0], rows=["b"])))


def test_a_member_that_failed_stays_in_the_table_and_a_failed_baseline_leaves_no_differences() -> None:
    made = table(member("base", failures=["diverged"]), member("other", run(0, [1.0]), failures=["cancelled"]))
    base, other = made.members
    assert (base.seeds, base.failures, base.scores, base.untouched) == ((), ("diverged",), {}, {})
    assert (other.failures, other.against) == (("cancelled",), {})
    assert other.scores["rouge_l"].mean == 100.0


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


def carried_out(spec: Path, out: Path) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-m", "cpd_engine", "table", str(spec), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, [json.loads(text) for text in done.stdout.splitlines()]


def test_the_command_seals_table_and_figure_and_tells_the_table(tmp_path: Path) -> None:
    code, events = carried_out(write(tmp_path), tmp_path / "out")
    assert (code, [event["kind"] for event in events]) == (0, ["checkpointed", "compared", "finished"])
    kld, cpd = events[1]["members"]
    assert (kld["seeds"], cpd["seeds"], cpd["failures"]) == ([0, 1], [0], ["diverged"])
    assert kld["scores"]["exact_match"]["by_seed"] == [37.5, 56.25]
    assert cpd["costs"]["steps"] == 40
    assert json.loads((tmp_path / "out/table/table.json").read_text()) == events[1]
    shown = json.loads((tmp_path / "out/table/figure.json").read_text())["panels"]
    assert [panel["metric"] for panel in shown] == list(METRICS)
    assert [mark["label"] for mark in shown[0]["marks"]] == ["kld", "cpd"]
    assert shown[0]["marks"][0]["interval"] == kld["scores"]["exact_match"]["row_interval"]
    picture = (tmp_path / "out/table/figure.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert carried_out(tmp_path / "table.json", tmp_path / "again")[0] == 0
    assert (tmp_path / "again/table/figure.png").read_bytes() == picture


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
