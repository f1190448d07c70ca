"""The run's settings: presets fill gaps, explicit values win, and bad values name their path."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from cpd_engine.config import EvaluationSpec, Preset, RunConfig
from cpd_engine.errors import NothingToLearn
from cpd_engine.plan import plan
from cpd_engine.presets import PRESETS

LEAST: dict[str, Any] = {
    "teacher": {"hub": "org/teacher", "revision": "0" * 40},
    "student": {"local": "students/small"},
    "dataset": {"train": "ds_0123456789"},
}


def test_three_names_are_enough_and_the_recommended_preset_fills_in_the_rest() -> None:
    config = RunConfig.model_validate(LEAST).resolved()
    found = config.model_dump()
    assert {name: found[name] for name in PRESETS["recommended"] if name != "mixing"} == {
        name: value for name, value in PRESETS["recommended"].items() if name != "mixing"
    }
    assert not any(epoch.dead for epoch in plan(config, samples=1000).planned.epochs)


def test_what_a_cache_keeps_is_not_asked_for_without_one() -> None:
    teacher = LEAST["teacher"] | {"top_k": 64}
    assert RunConfig.model_validate(LEAST | {"teacher": teacher}).teacher.top_k == 64
    with pytest.raises(ValidationError, match="take cache 'auto', 'memory' or 'disk', or leave top_k out"):
        RunConfig.model_validate(LEAST | {"teacher": teacher | {"cache": "off"}})


def test_an_explicit_value_wins_over_its_preset() -> None:
    config = RunConfig.model_validate(LEAST | {"preset": "kld", "tau_n": 3.0, "alpha": [0.3, 0.0]}).resolved()
    assert (config.divergence, config.tau_1, config.tau_n, config.alpha) == ("kld", 1.0, 3.0, (0.3, 0.0))


def test_every_preset_that_can_be_named_is_there() -> None:
    assert set(get_args(Preset)) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves_fully_and_survives_its_own_json(preset: str) -> None:
    config = RunConfig.model_validate(LEAST | {"preset": preset}).resolved()
    assert all(getattr(config, name) is not None for name in PRESETS[preset])
    assert config.resolved() == config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"epochs": "7"}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"epochs": -5}, "epochs"),
        ({"epochs": 2**40}, "epochs"),
        ({"tau_1": float("nan")}, "tau_1"),
        ({"tau_1": 0}, "tau_1"),
        ({"epohcs": 3}, "epohcs"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate"),
        ({"teacher": {"hub": "../../etc/passwd"}}, "teacher.hub.hub"),
        ({"teacher": {"hub": "file:///etc/passwd"}}, "teacher.hub.hub"),
        ({"teacher": {"hub": "http://169.254.169.254/"}}, "teacher.hub.hub"),
        ({"teacher": {"hub": "org/a\n"}}, "teacher.hub.hub"),
        ({"teacher": {"hub": "оrg/a"}}, "teacher.hub.hub"),
        ({"teacher": {"local": "../secrets"}}, "teacher.local.local"),
        ({"teacher": {"local": "/etc"}}, "teacher.local.local"),
        ({"teacher": {"from": "teacher", "drop_layers": 1}}, "teacher"),
        ({"student": {"from": "teacher", "drop_layers": 0}}, "student.from.drop_layers"),
        ({"student": {"tiny": "llama", "hidden": 128, "heads": 3}}, "student.tiny"),
        ({"teacher": {"tiny": "llama", "layers": 3}, "student": {"from": "teacher", "drop_layers": 3}}, ""),
        ({"dataset": {}}, "dataset"),
        ({"dataset": {"train": "a", "synthetic": {}}}, "dataset"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ],
)
def test_a_bad_value_is_refused_with_its_path(change: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(LEAST | change)
    assert ".".join(str(part) for part in caught.value.errors()[0]["loc"]) == path


def test_an_error_never_repeats_the_value_it_was_given() -> None:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(LEAST | {"teacher": {"hub": "hunter2 hunter2"}})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"divergence": "kld", "constants": {"beta": 0.1}}, "constants.beta: it is not of 'kld', which has none"),
        ({"preset": "srkl", "constants": {"lam": 0.9}}, "constants.lam: it is not of 'srkl', which has beta only"),
        ({"divergence": "skl", "constants": {"beta": 1.0}}, "skl mixes with a weight between 0 and 1"),
        ({"divergence": "bdl", "constants": {"lam": 0.5}}, "identically 0 at 0.5"),
        ({"preset": "taid", "teacher": LEAST["teacher"] | {"top_k": 8}}, "taid mixes whole logits"),
    ],
)
def test_constants_that_mean_nothing_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RunConfig.model_validate(LEAST | change)


@pytest.mark.parametrize("budget", [{}, {"amount": 5, "epochs": 1.0}, {"amount": 0}, {"epochs": 0.0}, {"unit": "rows"}])
def test_a_budget_names_one_positive_measure(budget: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(LEAST | {"budget": budget})
    assert caught.value.errors()[0]["loc"][0] == "budget"


def test_calibrated_mixing_is_refused_where_the_subset_shrinks() -> None:
    with pytest.raises(ValidationError, match="that of 'dakd' shrinks"):
        RunConfig.model_validate(LEAST | {"preset": "dakd", "mixing": {"kind": "calibrated"}})


def test_an_on_policy_preset_with_its_policy_off_weighs_cross_entropy_again() -> None:
    def alpha(**fields: Any) -> Any:
        return RunConfig.model_validate(LEAST | fields).resolved().alpha

    assert alpha(preset="cpd_on_policy") == 0.0
    assert alpha(preset="cpd_on_policy", policy={"kind": "off"}) == alpha(preset="cpd") == 0.3
    assert alpha(preset="gkd", policy={"kind": "off"}, alpha=0.1) == 0.1


def test_the_students_training_has_a_seed_of_its_own_where_one_is_given() -> None:
    assert RunConfig.model_validate(LEAST | {"seed": 3}).training_seed == 3
    assert RunConfig.model_validate(LEAST | {"seed": 3, "student_seed": 5}).training_seed == 5


def test_a_presets_constants_are_for_its_own_divergence_only() -> None:
    skewed = RunConfig.model_validate(LEAST | {"preset": "srkl", "constants": {"beta": 0.1}}).resolved()
    assert skewed.constants is not None
    assert skewed.constants.given() == {"beta": 0.1}
    assert RunConfig.model_validate(LEAST | {"preset": "abkd", "divergence": "kld"}).resolved().constants is None


ON: dict[str, Any] = {"kind": "on"}


def test_on_policy_there_is_no_cross_entropy_unless_it_is_asked_for() -> None:
    config = RunConfig.model_validate(LEAST | {"preset": "cpd", "policy": ON}).resolved()
    assert (config.alpha, config.divergence, config.own_share) == (0.0, "pmtd", 0.5)
    assert RunConfig.model_validate(LEAST | {"policy": ON, "alpha": 0.2}).resolved().alpha == 0.2
    assert RunConfig.model_validate(LEAST | {"preset": "cpd", "policy": {"kind": "off"}}).resolved().alpha == 0.3
    assert RunConfig.model_validate(LEAST | {"preset": "cpd"}).resolved().on_policy is None


def test_the_on_policy_presets_have_the_student_answer_half_without_cross_entropy() -> None:
    for preset, divergence in (("gkd", "jsd"), ("cpd_on_policy", "pmtd")):
        config = RunConfig.model_validate(LEAST | {"preset": preset}).resolved()
        assert config.on_policy is not None
        assert (config.divergence, config.alpha, config.on_policy.student_fraction) == (divergence, 0.0, 0.5)
        off = RunConfig.model_validate(LEAST | {"preset": preset, "policy": {"kind": "off"}}).resolved()
        assert (off.on_policy, off.own_share) == (None, 1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"policy": {}}, "policy.kind"),
        ({"policy": {"kind": "off", "top_p": 0.9}}, "top_p: it has no effect where kind is 'off'"),
        ({"policy": ON | {"buffer": 64}}, "buffer: it has no effect with refresh 'epoch'"),
        ({"policy": ON | {"student_fraction": 0.0}}, "policy.student_fraction"),
        ({"policy": ON | {"student_fraction": 1.5}}, "policy.student_fraction"),
        ({"policy": ON | {"refresh": "never"}}, "policy.refresh"),
        ({"preset": "sft", "policy": ON}, "'sft' asks none"),
        ({"preset": "gkd", "teacher": LEAST["teacher"] | {"top_k": 8}}, "leave top_k out, or policy 'off'"),
        ({"policy": ON | {"refresh": "step", "buffer": 3}}, "a step takes up to 4 of the student's answers"),
        (
            {"policy": ON | {"refresh": "step"}, "resources": {"gpus": 2, "sharding": "full"}},
            "take 'epoch', or sharding 'none'",
        ),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_with_the_remedy(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(LEAST | change)
    error = caught.value.errors()[0]
    assert said in error["msg"] or said == ".".join(map(str, error["loc"]))


def test_a_policy_with_nothing_to_teach_is_refused_in_the_plan() -> None:
    for change in ({"alpha": 1.0}, {"alpha": 0.3, "mixing": {"kind": "fixed", "value": 1.0}}):
        config = RunConfig.model_validate(LEAST | {"preset": "cpd", "policy": ON} | change).resolved()
        with pytest.raises(NothingToLearn, match="policy: of its own text the student learns what the teacher says"):
            plan(config, samples=100)


def test_a_plan_says_what_it_does_not_show_of_an_on_policy_and_an_adaptive_run() -> None:
    config = RunConfig.model_validate(LEAST | {"policy": ON, "mixing": {"kind": "adaptive"}}).resolved()
    codes = {warning.code: warning.message for warning in plan(config, samples=100).warnings}
    assert "50% of the samples of every step" in codes["on_policy"]
    assert "the teacher's body stays in memory" in codes["on_policy"]
    assert "lower bound" in codes["adaptive_mixing"]
    plain = {warning.code for warning in plan(RunConfig.model_validate(LEAST).resolved(), samples=100).warnings}
    assert not plain & {"on_policy", "adaptive_mixing"}


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({}, "the run has none; add one to suites"),
        ({"suites": [{"task": "gsm8k", "data": "sums"}]}, "the run has none; add one to suites"),
        ({"suites": ["text", "sums"], "judge": {"suites": ["gsm8k"]}}, "'gsm8k' is no text suite of this run; it has"),
        ({"suites": ["text"], "judge": {"against": ["sft"]}}, "'sft' is not trained by this run; add it to baselines"),
        ({"suites": ["text"], "judge": {"against": ["teacher", "teacher"]}}, "against: name each once"),
        ({"suites": ["text"], "judge": {"suites": ["dolly", "dolly"]}}, "suites: name each once"),
        ({"suites": ["text"], "judge": {"against": ["student"]}}, "Input should be 'teacher'"),
        ({"suites": ["text"], "judge": {"model": "mine"}}, "Extra inputs"),
    ],
)
def test_a_judge_is_asked_of_answers_that_the_run_will_have(evaluation: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _judged(evaluation)


def test_a_judge_compares_every_text_suite_unless_some_are_named() -> None:
    suites = ["text", "sums", {"task": "vicuna", "name": "asked", "data": "asked"}]
    assert _judged({"suites": suites}).judged == ("dolly", "asked")
    assert _judged({"suites": suites, "judge": {"suites": ["asked"]}}).judged == ("asked",)
    twin = _judged({"suites": suites, "baselines": ["kld"], "judge": {"against": ["kld", "untouched"]}})
    assert twin.judge is not None
    assert twin.judge.against == ("kld", "untouched")
    assert EvaluationSpec().judged == ()


def _judged(evaluation: dict[str, Any]) -> EvaluationSpec:
    known = {"text": {"task": "dolly", "data": "rows"}, "sums": {"task": "gsm8k", "data": "sums"}}
    suites = [known[suite] if isinstance(suite, str) else suite for suite in evaluation.get("suites", [])]
    judge = {"against": ["teacher"]} | evaluation.get("judge", {})
    return EvaluationSpec.model_validate(evaluation | {"suites": suites, "judge": judge})
