"""Several runs in one figure, of readings made by hand."""

from __future__ import annotations

from api.web import overlaid_figures
from api.web.figures import view
from api.web.live_figures import Across
from tests.unit.web.test_live_figures import run


def test_runs_of_a_label_share_a_colour_and_one_entry_of_the_legend() -> None:
    quick, slow = run(ce=[3.0, 2.0], validation__ce=[2.5]), run(ce=[3.0, 2.5, 2.4, 2.3])
    made = overlaid_figures.losses([("kld", quick), ("sft", slow), ("kld", slow)], Across.STEP)

    lines = [trace for trace in view(made).data if trace["mode"] == "lines"]
    assert [trace["name"] for trace in lines] == ["kld", "sft", "kld"]
    assert [trace["showlegend"] for trace in lines] == [True, True, False]
    assert lines[0]["line"]["color"] == lines[2]["line"]["color"] != lines[1]["line"]["color"]
    assert list(lines[1]["y"]) == [3.0, 2.5, 2.4, 2.3]


def test_a_validation_is_a_mark_where_its_epoch_ended_by_whatever_the_figure_goes() -> None:
    one = {"ce": [4.0, 3.0, 2.0, 1.0], "validation__ce": [2.5, 1.5]}
    for across, places in ((Across.STEP, [2, 4]), (Across.TOKENS, [150.0, 300.0])):
        made = overlaid_figures.losses([("kld", run(across, **one))], across)
        (marks,) = [trace for trace in view(made).data if trace["mode"] == "markers"]
        assert (list(marks["x"]), list(marks["y"])) == (places, [2.5, 1.5])


def test_more_labels_than_colours_are_told_apart_by_dashes_and_a_hostile_one_is_text() -> None:
    labels = [f"method {number}" for number in range(7)] + ["<b>bold</b>"]
    made = overlaid_figures.losses([(label, run(ce=[1.0])) for label in labels], Across.STEP)

    lines = [trace for trace in view(made).data if trace["mode"] == "lines"]
    assert len({(trace["line"]["color"], trace["line"]["dash"]) for trace in lines}) == 8
    assert lines[-1]["name"] == "&lt;b&gt;bold&lt;/b&gt;"
