"""What the terminal shows, as functions of events and answers; and job specs as they are read from files."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from api import quantities
from api.jobs.states import JobState
from api.remarks import remark
from api.remote.answers import Cost, Estimate, Event, Job, Price
from api.remote.scores import Flips
from api.remote.trouble import BadInput
from api.terminal import diagnoses, estimates, tables
from api.terminal.data_check import examine
from api.terminal.following import exit_code, until_rest
from api.terminal.progress import LiveScreen, PlainScreen, show_events
from api.terminal.specs import parse_overrides, read_spec
from api.terminal.standing import Standing, advance
from cpd_engine.data.lengths import Rendered, Tally, TokenCheck, TokenReport
from cpd_engine.events import (
    Comparison,
    EpochStarted,
    Forecasted,
    JudgedAgainst,
    JudgeReport,
    Measured,
    PhaseForecast,
    PhaseStarted,
    Progressed,
    Reported,
    SuiteReport,
    SuiteScore,
    to_dict,
)

RECIPE = """
teacher: {tiny: gpt2, layers: 4}
student: {tiny: gpt2, layers: 1}
dataset: {train: rows.jsonl, test: ds_12345678}
epochs: 2
"""

EPOCH = EpochStarted(
    trained="student",
    epoch=3,
    epochs=8,
    subset_size=1200,
    samples=4000,
    iterations=150,
    temperature=1.25,
    mixing=0.25,
    alpha=0.3,
)
MEASURED = Measured(
    trained="student",
    step=420,
    total_steps=1800,
    epoch=3,
    values={"loss": 1.23456},
    tokens_per_s=5123.4,
    step_s=0.5,
    eta_s=83.0,
    memory_bytes=1,
)


def folded(*events: Any) -> Standing:
    standing = Standing(state="running")
    for event in events:
        standing = advance(standing, event.kind, to_dict(event))
    return standing


def test_training_shows_phase_epoch_loss_temperature_mixing_subset_speed_and_eta() -> None:
    standing = folded(PhaseStarted(phase="train", index=3, total=6), EPOCH, MEASURED)
    assert standing.title == "4/6 train · student"
    expected = "epoch 3/8  loss 1.2346  τ 1.25  t 0.25  k_e/N 1,200/4,000  5,123 tokens/s  ETA 1:23"
    assert standing.details == expected
    assert (standing.step, standing.steps) == (420, 1800)


def test_a_new_phase_forgets_the_numbers_of_the_one_before() -> None:
    standing = folded(EPOCH, MEASURED, PhaseStarted(phase="evaluate", index=4, total=6))
    assert standing.details == ""
    standing = advance(standing, "progressed", to_dict(Progressed(phase="evaluate", label="teacher", done=3, total=9)))
    assert standing.title == "5/6 evaluate · teacher"


def test_a_job_that_goes_back_into_the_queue_says_so() -> None:
    assert advance(folded(EPOCH), "state_changed", {"from": "running", "to": "queued"}).title == "queued"


def test_what_asking_the_teacher_once_saves_is_said() -> None:
    planned = {"kept": "disk", "reason": "", "cached": False, "states_bytes": 3_100_000_000}
    planned |= {"passes_without": 16.4, "passes_with": 1.0, "operations_ratio": 4.08}
    told = "teacher: 3.1 GB of states (disk): 16.4 passes become 1, 4.1 × fewer operations in all"
    assert remark("teacher_states_planned", planned) == told
    off = planned | {"kept": "off", "reason": "teacher.cache is off"}
    assert remark("teacher_states_planned", off) == "teacher: its states are not kept: teacher.cache is off"


def test_events_of_a_newer_service_are_passed_over() -> None:
    assert remark("never_heard_of", {}) is None
    assert advance(Standing(), "never_heard_of", {}) == Standing()


def events(*pairs: tuple[str, dict[str, Any]]) -> list[Event]:
    return [
        Event.model_validate({"seq": seq, "kind": kind, "at": "2026-01-01T00:00:00Z", "data": data})
        for seq, (kind, data) in enumerate(pairs, start=1)
    ]


FORECAST = Forecasted(
    exact=False,
    duration_s=600.0,
    least_s=400.0,
    most_s=900.0,
    cpu_s=1100.0,
    phases=(PhaseForecast(phase="train", duration_s=500.0, cpu_s=950.0),),
    tokens=1_000_000,
    tokens_per_s=2000.0,
    memory_bytes=3 * 10**9,
    cache_bytes=40 * 10**6,
    disk_bytes=2 * 10**9,
    probe_s=5.0,
)


def test_a_forecast_stays_on_the_screen_in_one_line() -> None:
    line = "forecast: 10:00 in all (between 6:40 and 15:00), 2,000 tokens/s, 3.0 GB of memory"
    assert remark("forecasted", to_dict(FORECAST)) == line


def test_a_probe_s_forecast_is_shown_by_phase() -> None:
    shown = text_of(estimates.forecast(FORECAST))
    whole = " ".join(shown.split("\n┏")[0].split())
    figures_told = "about 10:00 (between 6:40 and 15:00), 2,000 tokens/s, 3.0 GB of memory, 2.0 GB of disk"
    assert whole == f"{figures_told}, 40 MB for the teacher's states"
    assert [line.split() for line in shown.splitlines() if "train" in line] == [
        ["│", "train", "│", "8:20", "│", "15:50", "│"]
    ]


def test_a_probe_s_forecast_tells_money_where_an_hour_has_a_price() -> None:
    price = Price(per_gpu_hour=6.0, currency="EUR", gpus=2)
    told = " ".join(text_of(estimates.forecast(FORECAST, price)).split())

    assert "about 2.00 EUR (between 1.33 and 3.00) at 6.00 an hour of a GPU, on 2" in told


def test_a_plan_tells_money_where_an_hour_has_a_price() -> None:
    cost = Cost(tokens=1000, duration_s=7200.0, memory_bytes=1, disk_bytes=1, error_factor=2.0, money=24.0)
    price = Price(per_gpu_hour=3.0, currency="EUR", gpus=4)
    told = " ".join(text_of(estimates.plan(Estimate(batch_size=8, exact=True, cost=cost, price=price))).split())
    untold = text_of(estimates.plan(Estimate(batch_size=8, exact=True, cost=cost)))

    assert "about 24.00 EUR (between 12.00 and 48.00) at 3.00 an hour of a GPU, on 4" in told
    assert "EUR" not in untold


def test_plain_lines_come_at_intervals_and_remarks_at_once() -> None:
    lines: list[str] = []
    ticks = iter(range(0, 1000, 4))
    screen = PlainScreen(lines.append, lambda: float(next(ticks)), interval_s=10.0)
    measured = [("measured", to_dict(MEASURED))] * 6
    warned = ("warned", {"code": "dead_epoch", "message": "Epoch 8 distils nothing."})
    ended = ("state_changed", {"from": "running", "to": "succeeded"})
    show_events(events(*measured, warned, ended), screen)
    assert lines[-2:] == ["warning: Epoch 8 distils nothing. (dead_epoch)", "job succeeded"]
    assert 0 < len(lines) - 2 < len(measured)


def test_following_ends_at_a_pause_that_holds_and_goes_on_after_one_that_is_over() -> None:
    paused = ("state_changed", {"from": "running", "to": "paused"})
    stream = events(paused, ("warned", {}), paused, ("warned", {}))
    states = iter([JobState.QUEUED, JobState.PAUSED])
    assert [event.seq for event in until_rest(stream, lambda: next(states))] == [1, 2, 3]


def test_the_live_display_draws_what_stands() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120)
    with LiveScreen(console) as screen:
        screen.show(folded(PhaseStarted(phase="train", index=3, total=6), EPOCH, MEASURED), "data: 10 rows")
    assert "data: 10 rows" in written.getvalue()
    assert "k_e/N 1,200/4,000" in written.getvalue()


def text_of(renderable: Any) -> str:
    written = io.StringIO()
    Console(file=written, width=80).print(renderable)
    return written.getvalue()


def test_the_table_of_scores_has_every_model_its_steps_and_how_sure_the_difference_is() -> None:
    report = Reported(
        rows=500,
        scores={
            "teacher": {"exact_match": 91.2, "rouge_l": 95.31, "ce": 0.1234},
            "untouched": {"exact_match": 0.0, "rouge_l": 2.0, "ce": 6.9},
            "sft": {"exact_match": 50.0, "rouge_l": 60.0, "ce": 0.9},
            "student": {"exact_match": 55.0, "rouge_l": 64.0, "ce": 0.8},
        },
        steps={"sft": 900, "student": 900},
        gap_closed={"exact_match": 0.603},
        comparisons=(
            Comparison(
                subject="sft",
                metric="exact_match",
                difference=5.0,
                interval=(1.2, 8.8),
                p_value=0.0004,
                non_zero=77,
                rows=500,
            ),
        ),
    )
    text = text_of(tables.scores(report))
    rows = [line for line in text.splitlines() if "student" in line or "teacher" in line]
    order = ["teacher", "untouched student", "CE-only student", "distilled student"]
    assert [next(name for name in order if name in row) for row in rows[:4]] == order
    assert "Scores on 500 test samples" in text
    [against] = [line for line in text.splitlines() if "+5.00" in line]
    assert all(part in against for part in ("CE-only", "exact match", "+1.20 … +8.80", "< .001", "77/500"))
    assert "exact match 60%" in " ".join(text.split())


def test_suites_have_a_row_a_metric_with_its_error_and_the_student_against_the_others() -> None:
    score = SuiteScore(mean=41.26, item_error=1.44, seed_deviation=None)
    against = Comparison(
        subject="untouched", metric="accuracy", difference=12.5, interval=(3.0, 22.0), p_value=0.01, non_zero=9, rows=40
    )
    suite = SuiteReport(
        suite="gsm8k",
        task="gsm8k",
        rows=40,
        seeds=(),
        settings_sha256="0" * 64,
        scores={subject: {"accuracy": score} for subject in ("teacher", "untouched", "student")},
        gap_closed={},
        comparisons=(against,),
    )
    text = text_of(tables.scores(Reported(rows=1, scores={}, steps={}, gap_closed={}, comparisons=(), suites=(suite,))))
    [scored] = [line for line in text.splitlines() if "gsm8k accuracy" in line]
    assert scored.count("41.3 ± 1.4") == 3
    [compared] = [line for line in text.splitlines() if "+12.50" in line]
    assert all(part in compared for part in ("untouched", "gsm8k", "+3.00 … +22.00", ".010", "9/40"))
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_judge_s_verdicts_have_a_row_for_each_model_and_what_they_cost() -> None:
    verdicts = JudgedAgainst(
        suite="dolly",
        subject="untouched",
        pairs=80,
        valid=79,
        wins=50,
        ties=9,
        losses=20,
        disagreements=6,
        errors={"no_verdict": 1},
        win_rate=100 * 54.5 / 79,
        prompt_tokens=120_000,
        completion_tokens=3_456,
        cost=0.5,
    )
    nothing = Reported(rows=1, scores={}, steps={}, gap_closed={}, comparisons=())
    judged = JudgeReport(model="judge-1", results=(verdicts,), unavailable=None)
    text = text_of(tables.scores(replace(nothing, judged=judged)))
    [row] = [line for line in text.splitlines() if "dolly" in line]
    assert row.split("│")[1:-1] == [
        " dolly ",
        " untouched ",
        "       69.0 ",
        "   50 ",
        "    9 ",
        "     20 ",
        "      1 ",
    ]
    assert "123,456 tokens, 0.5 by the operator's prices" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    missing = JudgeReport(model="judge-1", results=(verdicts,), unavailable="it does not answer")
    assert "Not all judged: it does not answer" in text_of(tables.scores(replace(nothing, judged=missing)))
    assert "Judged" not in text_of(tables.scores(nothing))


def test_an_id_is_never_cut_in_a_narrow_terminal() -> None:
    job = Job.model_validate(
        {"id": "job_" + "f" * 32, "name": "n" * 60, "state": "running", "created_at": "2026-01-01T00:00:00Z"}
    )
    assert job.id in text_of(tables.jobs([job]))


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0.4, "0:00"), (83.4, "1:23"), (3600, "1:00:00"), (-1, "0:00")]
)
def test_durations_read_as_clocks(seconds: float | None, text: str) -> None:
    assert quantities.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (93e6, "93 MB")])
def test_sizes_have_two_digits_and_a_unit(count: float, text: str) -> None:
    assert quantities.size(int(count)) == text


def test_exit_codes_tell_failed_from_stopped() -> None:
    assert [exit_code(state) for state in JobState] == [0, 0, 5, 0, 1, 5]


def test_local_files_of_a_recipe_are_found_beside_it_and_ids_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    spec = read_spec(recipe, {})
    assert spec.files == {"train": tmp_path / "rows.jsonl"}
    config = spec.with_datasets({"train": "ds_87654321"})
    assert (config.dataset.train, config.dataset.test) == ("ds_87654321", "ds_12345678")
    # Only what was written is sent, so that the service's own defaults apply to the rest.
    assert config.model_fields_set == {"teacher", "student", "dataset", "epochs"}


def test_an_override_takes_the_place_of_any_source(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("{train: rows.jsonl, test: ds_12345678}", "{synthetic: {rows: 200}, max_rows: 9}"))
    spec = read_spec(recipe, parse_overrides(["train=ds_87654321"]))
    assert spec.files == {}
    assert (spec.config.dataset.train, spec.config.dataset.synthetic) == ("ds_87654321", None)
    assert spec.config.dataset.max_rows == 9


def test_on_and_off_are_words_in_a_recipe_although_yaml_takes_them_for_truth_values(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "teacher: {tiny: gpt2, cache: off}\n"
        "student: {tiny: gpt2}\n"
        "dataset: {synthetic: {}}\n"
        "policy: {kind: on, student_fraction: 0.25}\n"
    )
    config = read_spec(recipe, {}).config
    assert config.teacher.cache == "off"
    assert config.policy is not None
    assert config.policy.kind == "on"


@pytest.mark.parametrize("pair", ["train", "=x", "train=", "valid=ds_1"])
def test_an_override_that_is_none_is_refused(pair: str) -> None:
    with pytest.raises(BadInput, match="SPLIT=ID"):
        parse_overrides([pair])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("epochs: 2", "epochs: -2"), "epochs: "),
        (("epochs: 2", "epochs: true"), "epochs: "),
        (("epochs: 2", "epoch: 2"), "epoch: Extra inputs"),
        (("layers: 4", "layers: 400"), "teacher.tiny.layers: "),
        (("rows.jsonl", "absent.jsonl"), "dataset.train: there is no file"),
        (("epochs: 2", "epochs: ["), "no YAML"),
        (("epochs: 2", "epochs: .nan"), "epochs: "),
        ((RECIPE, "- 1"), "a spec is a mapping"),
    ],
    ids=["negative", "bool", "unknown", "nested", "no-file", "syntax", "nan", "list"],
)
def test_a_bad_recipe_is_refused_by_field_in_one_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace(*change))
    with pytest.raises(BadInput) as caught:
        read_spec(recipe, {})
    assert says in str(caught.value)
    assert str(recipe) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_rows_are_examined_one_by_one_and_against_each_other(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 2 + "nonsense\n")
    (tmp_path / "test.csv").write_text("prompt,completion\na,c\n")
    (tmp_path / "broken.json").write_text('[{"prompt": "a"}')
    names = ("train.jsonl", "test.csv", "broken.json")
    train, test, broken = examine([tmp_path / name for name in names], max_bad_fraction=0.5)
    assert (train.accepted, train.diagnosis.duplicates.lines) == (True, (2,))
    assert (test.accepted, test.diagnosis.leaked[train.file].lines) == (True, (2,))
    assert not broken.accepted
    assert broken.unreadable is not None
    console = Console(file=io.StringIO(), width=200)
    console.print(diagnoses.checked([train, test, broken], None))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is the buffer above
    said = (
        "invalid_json",
        "duplicates of an earlier row: 1 (line 2)",
        "train.jsonl too: 1 (line 2)",
        "line 1, column 17",
    )
    assert all(part in shown for part in said), shown


def test_what_the_tokenizers_say_is_shown_with_a_histogram_and_the_first_row() -> None:
    tally = Tally()
    for length in (5, 20, 40):
        tally.add(length)
    row = Rendered(id="row-1", prompt="### Ask [b]", response="answer</s>", prompt_tokens=3, response_tokens=2)
    report = TokenReport(
        file="a.jsonl",
        model="teacher",
        template="paper",
        max_length=32,
        rows=3,
        prompt=tally.lengths(),
        response=tally.lengths(),
        sample=tally.lengths(),
        overlong_prompt=0,
        overlong=1,
        shown=(row,),
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(diagnoses.checked([], TokenCheck(reports=(report,), vocabularies="they differ")))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is the buffer above
    assert all(part in shown for part in ("they differ", "≤ 64", "█", "33.33%", "### Ask [b]answer</s>")), shown


def test_the_files_of_a_suite_are_uploaded_and_its_data_sets_left(tmp_path: Path) -> None:
    for name in ("test.jsonl", "shots.json"):
        (tmp_path / name).write_text("{}")
    suites = [
        {"task": "dolly", "data": "ds_12345678"},
        {"task": "gsm8k", "data": "test.jsonl", "examples": "shots.json"},
    ]
    recipe = tmp_path / "recipe.json"
    given = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}}}
    recipe.write_text(json.dumps(given | {"evaluation": {"suites": suites}}))
    spec = read_spec(recipe, {})
    assert spec.files == {"suites.1.data": tmp_path / "test.jsonl", "suites.1.examples": tmp_path / "shots.json"}
    config = spec.with_datasets({"suites.1.data": "ds_aaaaaaaa", "suites.1.examples": "ds_bbbbbbbb"})
    assert [suite.data for suite in config.evaluation.suites] == ["ds_12345678", "ds_aaaaaaaa"]
    assert config.evaluation.suites[1].examples == "ds_bbbbbbbb"
    (tmp_path / "shots.json").unlink()
    with pytest.raises(BadInput, match=r"evaluation\.suites\.1\.examples: there is no file"):
        read_spec(recipe, {})


def test_rows_that_got_worse_are_shown_with_both_answers_and_how_many_there_are() -> None:
    answers = {"untouched": {"text": "eight"}, "student": {"text": "nine"}, "teacher": {"text": "eight!"}}
    row = {
        "row": "r1",
        "prompt": "3 + 5?",
        "reference": "8",
        "answers": answers,
        "before": 1.0,
        "after": 0.0,
        "loss": 1.0,
    }
    counts = {"rows": 1200, "worse": 1, "better": 2, "equal": 1197, "right_to_wrong": 1, "wrong_to_right": 2}
    found = Flips.model_validate({"against": "untouched", "metric": "exact_match", "counts": counts, "data": [row]})
    text = " ".join(text_of(tables.flips(found)).split())

    assert "against untouched student in exact match: of 1,200 rows 1 worse, 2 better" in text
    assert "right → wrong 1, wrong → right 2" in text
    assert "untouched student eight" in text
    assert "distilled student nine" in text
    assert "eight!" not in text
