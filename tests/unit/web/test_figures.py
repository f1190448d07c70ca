from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import plotly.graph_objects as go
import pytest

from api.web import comparison_figures, difficulty_figures, quality_figures
from api.web.comparison_figures import Spent
from api.web.figures import PALETTE, view
from cpd_engine.events import ComparedSuite, ProfileReady, SuiteMember
from tests.unit.web import figure_values as values
from tests.unit.web.figure_values import HOSTILE, trace

ROOT = Path(__file__).resolve().parents[3]
HOURS = Spent(by_label={"kld": 0.5, "cpd": 0.75}, axis="hours of a run on a worker", unit="h")
FIGURES: dict[str, Callable[[], go.Figure]] = {
    "profile": lambda: difficulty_figures.profile(values.profile()),
    "histogram": lambda: difficulty_figures.histogram(values.profile()),
    "schedule": lambda: difficulty_figures.schedule(values.profile()),
    "quality": lambda: quality_figures.quality(values.report(suites=2)),
    "changes": lambda: quality_figures.changes(values.report()),
    "methods": lambda: comparison_figures.methods(values.table()),
    "tradeoff": lambda: comparison_figures.tradeoff(values.table(), parameters={"kld": 60_000_000}, spent=HOURS),
}


def luminance(colour: str) -> float:
    """As WCAG 2 has it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", PALETTE)
def test_every_colour_stands_out_from_a_light_and_a_dark_ground(colour: str) -> None:
    for ground in ("#ffffff", "#16191f"):
        lighter, darker = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3.0, ground


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_a_name_a_description_and_axes_but_no_ground_of_its_own(name: str) -> None:
    told = view(FIGURES[name]())
    layout = told.layout

    assert told.data
    assert layout["meta"]["title"]
    assert layout["meta"]["description"].endswith(".")
    assert not {"paper_bgcolor", "plot_bgcolor", "font", "title", "width"} & set(layout)
    axes = [layout[key] for key in layout if key.startswith("xaxis")]
    assert axes
    assert all(axis["title"]["text"] for axis in axes)


def test_no_figure_needs_numpy() -> None:
    program = "\n".join(
        (
            "import sys",
            "class Shut:",
            "    def find_spec(self, name, path=None, target=None):",
            "        if name.partition('.')[0] in ('numpy', 'pandas'): raise ModuleNotFoundError(name)",
            "sys.meta_path.insert(0, Shut())",
            "from tests.unit.web import figure_values as values",
            "from api.web import difficulty_figures, quality_figures",
            "from api.web.figures import view",
            "for made in (difficulty_figures.profile(values.profile()), quality_figures.quality(values.report())):",
            "    print(len(view(made).model_dump_json()))",
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert all(int(line) > 1000 for line in done.stdout.split())


def test_the_cuts_drawn_are_the_plan_s_and_lie_on_the_curve() -> None:
    cuts = trace(difficulty_figures.profile(values.profile()), "cut k of an epoch")

    assert list(cuts.x) == [25, 50, 75, 100]
    assert list(cuts.y) == pytest.approx([13.0, 25.5, 38.0, 50.5])
    assert list(cuts.text) == ["1", "2", "3", "4"]
    assert cuts.customdata[1] == "epoch 2: 50 of 100 samples<br>target 25.5<br>t = 0.25, τ = 1.25"


def test_a_cut_between_the_points_of_a_thinned_profile_lies_on_the_curve_all_the_same() -> None:
    ready = values.profile(100_000, epochs=7)
    cuts = trace(difficulty_figures.profile(ready), "cut k of an epoch")
    assert not set(ready.subset_sizes[:-1]) <= set(ready.k)

    assert list(cuts.y) == pytest.approx([(k + 1) / 2 for k in ready.subset_sizes])


def test_the_bands_of_the_subsets_follow_one_another_up_to_their_cuts() -> None:
    figure = difficulty_figures.profile(values.profile())
    bands = [one for one in figure.data if one.fill == "tozeroy"]

    assert [band.name for band in bands] == [f"subset of epoch {e}" for e in (1, 2, 3, 4)]
    assert [band.x[-1] for band in bands] == [25, 50, 75, 100]
    assert all(before.x[-1] == after.x[0] for before, after in pairwise(bands))


def test_epochs_on_the_same_samples_share_a_band() -> None:
    ready = values.profile(subset_sizes=(100, 40, 40, 100), descending=True)
    figure = difficulty_figures.profile(ready)

    assert [one.name for one in figure.data if one.fill == "tozeroy"] == [
        "subset of epoch 2–3",
        "subset of epoch 1, 4",
    ]


def test_targets_reach_from_the_left_to_their_cuts() -> None:
    targets = trace(difficulty_figures.profile(values.profile()), "target of an epoch")

    assert list(targets.x) == [0, 25, None, 0, 50, None, 0, 75, None, 0, 100, None]
    assert list(targets.y)[:2] == [13.0, 13.0]


def test_a_curriculum_without_targets_draws_none() -> None:
    figure = difficulty_figures.profile(values.profile(targets=()))

    assert "target of an epoch" not in [one.name for one in figure.data]
    assert "target" not in trace(figure, "cut k of an epoch").customdata[0]


@pytest.mark.parametrize("descending", [False, True])
def test_a_sample_is_told_at_its_place_with_its_score_and_the_head_of_its_prompt(descending: bool) -> None:
    ready = values.profile(prompt="Why is the sky blue? " * 20, descending=descending, along=())
    samples = trace(difficulty_figures.profile(ready), "a sample")
    told = dict(zip(samples.x, samples.customdata, strict=True))

    first, last = ("row-99", "row-0") if descending else ("row-0", "row-99")
    assert (told[1][0], told[100][0]) == (first, last)
    assert told[1][1] == (100.0 if descending else 1.0)
    assert told[1][2].startswith("Why is the sky blue?")
    assert len(told[1][2]) == 120


def test_text_of_users_is_never_markup() -> None:
    prompt, made = HOSTILE, json.dumps(view(difficulty_figures.profile(values.profile(prompt=HOSTILE))).data)

    assert prompt not in made
    assert "<a" not in made
    assert "&lt;a href=" in made


@pytest.mark.parametrize(
    "draw", [difficulty_figures.profile, difficulty_figures.histogram, difficulty_figures.schedule]
)
def test_a_figure_of_a_million_samples_and_many_epochs_stays_small(draw: Callable[[ProfileReady], go.Figure]) -> None:
    ready = values.profile(200_000, epochs=200, prompt="<&>" * 200)

    assert len(view(draw(ready)).model_dump_json().encode()) < 200_000


def test_the_histogram_shows_every_sample_once_and_the_mean() -> None:
    ready = values.profile()
    figure = difficulty_figures.histogram(ready)
    (bars,) = figure.data

    assert tuple(bars.y) == ready.histogram_counts
    assert list(bars.customdata[0]) == [ready.histogram_edges[0], ready.histogram_edges[1]]
    assert figure.layout.shapes[0].x0 == ready.mean == 50.5


def test_the_schedule_is_the_plan_s() -> None:
    ready = values.profile()
    figure = difficulty_figures.schedule(ready)

    assert tuple(trace(figure, "samples k").y) == ready.subset_sizes
    assert tuple(trace(figure, "mixing t").y) == ready.mixing
    assert tuple(trace(figure, "temperature τ").y) == ready.temperatures


def test_intervals_and_n_of_the_quality_figure_are_the_report_s() -> None:
    figure = quality_figures.quality(values.report())
    student = [one for one in figure.data if one.name == "distilled student"]
    exact = student[0]

    assert [one.x[0] for one in student] == [50.0, 70.0, 1.5]
    assert (exact.error_x.array[0], exact.error_x.arrayminus[0]) == (35.0, 25.0)
    # The report tells no interval of this one, and none is drawn.
    assert student[1].error_x.array is None
    assert "n = 100" in exact.customdata[0]
    assert "n = 100" in figure.layout.xaxis.title.text
    order = [one.name for one in figure.data[:4]]
    assert order == ["teacher", "distilled student", "untouched student", "CE-only student"]


def test_a_suite_s_interval_is_that_of_its_standard_error() -> None:
    figure = quality_figures.quality(values.report(suites=1))
    teacher, student = figure.data[-2:]

    assert student.error_x.array[0] == pytest.approx(1.96 * 2.0)
    assert teacher.error_x.array is None
    assert figure.layout.xaxis4.title.text == "suite-0: accuracy, %, n = 50"


def test_more_metrics_than_there_is_room_for_are_counted() -> None:
    figure = quality_figures.quality(values.report(suites=20))

    assert len({one.xaxis for one in figure.data}) == 12
    assert "11 more metrics" in figure.layout.meta["description"]


def test_changed_answers_are_those_that_the_paired_test_counted() -> None:
    # Of 30 rows on which they differ 25 went one way and 5 the other: 20 points of 100 rows.
    against = {one.subject: one for one in quality_figures.flips(values.report(difference=20.0, non_zero=30))}
    untouched = against["untouched"]

    assert (untouched.gained, untouched.lost) == (25, 5)
    assert (untouched.both_right, untouched.both_wrong) == (25, 45)
    bars = quality_figures.changes(values.report()).data
    assert [(bar.name, bar.x[1]) for bar in bars] == [
        ("wrong → right", 25), ("right → wrong", 5), ("both right", 25), ("both wrong", 45)
    ]  # fmt: skip


def test_methods_have_the_table_s_means_intervals_and_seeds() -> None:
    figure = comparison_figures.methods(values.table())
    dots, mean = [one for one in figure.data if one.name == "cpd *" and one.xaxis == "x"]

    assert tuple(dots.x) == (34.0, 36.0)
    assert (mean.x[0], mean.error_x.array[0], mean.error_x.arrayminus[0]) == (35.0, 5.0, 4.0)
    assert "+5 against the baseline (+0.5 to +9.5), p = 0.04 after Holm" in mean.customdata[0]
    assert {shape.x0 for shape in figure.layout.shapes} == {60.0, 10.0}


def test_a_suite_s_metrics_stand_below_those_of_the_test_rows() -> None:
    table = values.table()
    line = table.members[1]
    member = SuiteMember(
        label=line.label, scores={"accuracy": line.scores["exact_match"]}, against={}, teacher={}, untouched={}
    )
    suite = ComparedSuite(suite="gsm8k", task="gsm8k", rows=50, seeds=(), metrics=("accuracy",), members=(member,))
    figure = comparison_figures.methods(replace(table, suites=(suite,)))

    assert figure.layout.xaxis3.title.text == "gsm8k: accuracy, %, n = 50"
    assert [one.x[0] for one in figure.data if one.xaxis == "x3"][-1] == 35.0


def test_a_star_marks_what_differs_after_holm_and_nothing_else() -> None:
    names = {one.name for one in comparison_figures.methods(values.table()).data}

    assert names == {"kld", "cpd *", "rkl"}


def test_quality_stands_against_size_and_cost_where_they_are_known() -> None:
    figure = comparison_figures.tradeoff(values.table(), parameters={"kld": 60_000_000, "cpd": 40_000_000}, spent=HOURS)
    points = {(one.name, one.xaxis): (one.x[0], one.y[0]) for one in figure.data}

    assert points == {
        ("kld", "x"): (60_000_000, 30.0),
        ("cpd", "x"): (40_000_000, 35.0),
        ("kld", "x2"): (0.5, 30.0),
        ("cpd", "x2"): (0.75, 35.0),
    }
    assert figure.layout.xaxis2.title.text == "hours of a run on a worker"


def test_a_table_in_which_nobody_finished_draws_nothing_and_fails_nothing() -> None:
    table = values.table()
    empty = type(table)(rows=1, baseline="kld", budget="1 step", members=())

    assert not comparison_figures.methods(empty).data
    assert not comparison_figures.tradeoff(empty, parameters={}, spent=HOURS).data
