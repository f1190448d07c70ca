"""Every experiment of the paper expands to jobs and comparisons that the service takes, and what waits is exactly what is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from api.terminal.specs import read_spec as submitted
from cpd_engine.config import BudgetSpec, RunConfig
from cpd_engine.plan import plan
from cpd_engine.presets import PRESETS
from cpd_engine.spec import read_spec
from recipes.paper.__main__ import main
from recipes.paper.costs import resolved, text_of
from recipes.paper.experiments import (
    HERE,
    Experiment,
    UnknownExperiment,
    bases,
    comparison,
    experiment,
    experiments,
    job,
    merged,
    placed,
    recipe,
)

ALL = experiments()
# What all members of a comparison share or have decided for them.
NOT_A_MEMBERS = {"dataset", "evaluation", "budget", "seed", "name", "metadata"}


def variations(one: Experiment) -> list[str | None]:
    """What a comparison of the experiment is asked with."""
    return [apart.label for apart in one.apart] or [None]


def validates(spec: dict[str, Any]) -> bool:
    try:
        RunConfig.model_validate_json(json.dumps(spec)).resolved()
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("base", bases())
def test_a_recipe_runs_as_it_stands(base: str) -> None:
    config = read_spec(HERE / f"{base}.yaml")

    assert config.name == base
    assert plan(config, samples=text_of(config).rows).planned.total_iterations > 0


@pytest.mark.parametrize("base", bases())
def test_a_recipe_is_what_the_command_line_submits(base: str) -> None:
    uploaded = {"train": "ds_00000001", "validation": "ds_00000002", "test": "ds_00000003"}
    spec = submitted(HERE / f"{base}.yaml", uploaded)

    assert spec.files == {}
    assert spec.config.dataset.model_dump(exclude_unset=True) == uploaded
    assert spec.config.resolved().model_dump(exclude={"dataset"}) == read_spec(HERE / f"{base}.yaml").model_dump(
        exclude={"dataset"}
    )


@pytest.mark.parametrize("base", bases())
def test_a_recipe_leaves_the_method_to_its_preset(base: str) -> None:
    """So that a member with a preset of its own means the same here and in a comparison, where it drops what the base says of it."""
    of_presets = {name for preset in PRESETS.values() for name in preset} - {"epochs"}

    assert not of_presets & set(yaml.safe_load((HERE / f"{base}.yaml").read_text()))


@pytest.mark.parametrize("base", bases())
def test_no_commit_is_made_up(base: str) -> None:
    spec = recipe(base)

    assert {spec["teacher"]["revision"], spec["student"]["revision"]} == {"main"}


@pytest.mark.parametrize("name", ALL)
def test_every_job_of_an_experiment_is_one_that_the_service_takes(name: str) -> None:
    one = experiment(name)
    for label in one.labels():
        config = resolved(job(one, label))
        assert plan(config, samples=text_of(config).rows).planned.total_iterations > 0, label


@pytest.mark.parametrize("name", ALL)
def test_a_comparison_holds_the_same_jobs(name: str) -> None:
    one = experiment(name)
    for apart in variations(one):
        spec = comparison(one, apart)
        labels = [member["label"] for member in spec["members"]]
        assert set(spec) == {"name", "metadata", "base", "members", "baseline", "seeds", "budget"}
        assert labels == [member.label for member in one.members]
        assert spec["baseline"] in labels
        BudgetSpec.model_validate(spec["budget"])
        for member in spec["members"]:
            assert not NOT_A_MEMBERS & set(member["set"])
            label = member["label"] if apart is None else f"{member['label']}@{apart}"
            alone = {key: value for key, value in job(one, label).items() if key not in ("name", "metadata")}
            assert merged(spec["base"], member["set"]) == alone


def test_all_members_of_a_comparison_may_spend_what_the_baselines_epochs_take() -> None:
    assert comparison(experiment("table6-gpt2"))["budget"] == {"unit": "steps", "epochs": 20.0}
    assert comparison(experiment("table2-math"))["budget"] == {"unit": "steps", "epochs": 4.0}


@pytest.mark.parametrize(("variation", "base"), [("0.1B", "gpt2-0.1b"), ("0.3B", "gpt2-0.3b"), ("0.8B", "gpt2-0.8b")])
def test_a_student_of_the_capacity_gaps_is_that_of_its_own_recipe(variation: str, base: str) -> None:
    ours, alone = (resolved(spec) for spec in (job(experiment("table7"), f"CPD@{variation}"), recipe(base)))

    assert ours.model_dump(exclude={"name", "metadata"}) == alone.model_dump(exclude={"name", "metadata"})


@pytest.mark.parametrize("share", [10, 30, 50, 80, 100])
def test_a_low_resource_job_takes_its_share_of_the_rows(share: int) -> None:
    config = resolved(job(experiment("fig4b"), f"CPD@{share}"))

    assert text_of(config).rows == pytest.approx(share / 100 * 11_435, abs=0.5)


def test_the_preset_of_a_method_is_what_is_run() -> None:
    named = {label: job(experiment("methods"), label)["preset"] for label in experiment("methods").labels()}

    # Nothing of the paper is `recommended`.
    assert set(named.values()) == PRESETS.keys() - {"recommended"}
    assert len(set(named.values())) == len(named)


def test_what_was_printed_can_be_submitted_from_where_it_was_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", "table5b-gpt2", "CS"]) == 0
    (tmp_path / "job.yaml").write_text(capsys.readouterr().out)
    config = read_spec(tmp_path / "job.yaml")

    assert config.curriculum == "cosine"
    assert (tmp_path / str(config.dataset.train)).resolve() == HERE.parents[1] / "build/paper/dolly/train.jsonl"


def test_a_comparison_is_printed_with_uploaded_data_in_the_place_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    uploaded = {"train": "ds_00000001", "validation": "ds_00000002", "test": "ds_00000003"}
    named = [word for split, dataset in uploaded.items() for word in ("--dataset", f"{split}={dataset}")]
    assert main(["show", "fig4b", "30", "--comparison", *named]) == 0
    spec = yaml.safe_load(capsys.readouterr().out)

    assert spec["base"]["dataset"] == {**uploaded, "max_rows": 3431}
    assert validates(spec["base"])


def test_the_files_of_suites_are_seen_from_there_too(tmp_path: Path) -> None:
    spec = recipe("gpt2-0.1b")
    seen = placed(spec, tmp_path, {})["evaluation"]["suites"]

    assert [(tmp_path / suite["data"]).resolve().parent.name for suite in seen] == [suite["task"] for suite in seen]


@pytest.mark.parametrize(
    "words",
    [["table9"], ["table1", "GDK"], ["table1"], ["fig4b", "CPD"], ["fig4b", "--comparison"], ["table1", "CPD@10"]],
)
def test_what_does_not_exist_is_refused_with_what_there_is(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *words]) == 2
    told = capsys.readouterr()

    assert told.out == ""
    assert told.err.strip()


def test_an_unknown_member_lists_the_members() -> None:
    with pytest.raises(UnknownExperiment, match="SFT, KLD, RKL"):
        job(experiment("table1"), "GDK")


def test_the_list_names_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    told = capsys.readouterr().out

    assert sum(line.startswith("    ") for line in told.splitlines()) == sum(
        len(list(one.labels())) for one in ALL.values()
    )
