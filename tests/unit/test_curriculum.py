"""Profile, cuts and plan against hand-worked values, the paper's Table 5 and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpd_engine.config import RunConfig
from cpd_engine.curriculum import fitted, floor_size, subset_sizes, targets
from cpd_engine.difficulty import fused, ranks_by, scores
from cpd_engine.errors import ConfigInvalid, NothingToLearn
from cpd_engine.plan import plan
from cpd_engine.profile import DifficultyProfile

SMALL = DifficultyProfile.from_scores([1.0, 1.0, 2.0, 4.0, 8.0, 8.0])


def config(**fields: object) -> RunConfig:
    given: dict[str, object] = {
        "teacher": {"local": "t"},
        "student": {"local": "s"},
        "dataset": {"train": "rows.jsonl"},
        "preset": "cpd",
    }
    return RunConfig.model_validate(given | fields).resolved()


def test_the_profile_is_the_running_mean_of_the_sorted_scores() -> None:
    assert SMALL.cumulative.tolist() == pytest.approx([1, 1, 4 / 3, 2, 3.2, 4], abs=1e-12)
    assert SMALL.order.tolist() == [0, 1, 2, 3, 4, 5]


def test_equal_scores_are_ordered_by_id_and_unscored_samples_are_left_out_and_counted() -> None:
    profile = DifficultyProfile.from_scores([2.0, math.nan, 1.0, 1.0, math.inf], ids=["e", "d", "c", "b", "a"])
    assert profile.order.tolist() == [3, 2, 0]
    assert profile.unscored == 2


def test_the_calibrated_cuts_of_the_reference_profile() -> None:
    assert subset_sizes(SMALL, 4) == [1, 4, 5, 6]


def test_the_floor_lifts_early_subsets_only() -> None:
    assert subset_sizes(SMALL, 4, floor=3) == [3, 4, 5, 6]
    assert floor_size(100, 8, 0.0) == 8
    assert floor_size(100, 8, 0.255) == 26
    assert floor_size(5, 8, 0.0) == 5


def test_equal_scores_end_with_all_samples_all_the_same() -> None:
    assert subset_sizes(DifficultyProfile.from_scores([3.0] * 10), 5, floor=2) == [2, 2, 2, 2, 10]


def test_the_affine_targets_run_from_the_floor_to_the_whole() -> None:
    assert targets(SMALL, 4, "calibrated_affine", floor=2) == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert subset_sizes(SMALL, 4, "calibrated_affine", floor=2) == [2, 4, 5, 6]


def test_baby_steps_are_four_stages_of_equal_length() -> None:
    hundred = DifficultyProfile.from_scores(range(100))
    assert subset_sizes(hundred, 8, "baby_step") == [25, 25, 50, 50, 75, 75, 100, 100]
    assert subset_sizes(hundred, 3, "baby_step") == [50, 75, 100]
    # POCL's 32 epochs of the paper see as many samples as 20 epochs of its baselines (A.4.3).
    assert sum(subset_sizes(hundred, 32, "baby_step")) == 20 * 100


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    st.integers(1, 25),
    st.integers(1, 80),
    st.sampled_from(["calibrated", "calibrated_affine", "none", "linear", "cosine", "baby_step"]),
)
def test_every_curriculum_grows_from_the_floor_to_all_samples(
    values: list[float], epochs: int, floor: int, kind: str
) -> None:
    sizes = subset_sizes(DifficultyProfile.from_scores(values), epochs, kind, floor=floor)
    assert len(sizes) == epochs
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(values)
    assert sizes[0] >= min(floor, len(values))


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1e3), min_size=1, max_size=60), st.integers(1, 12))
def test_the_calibrated_cut_is_the_first_prefix_that_reaches_its_target(values: list[float], epochs: int) -> None:
    ordered = sorted(values)
    means = [math.fsum(ordered[:k]) / k for k in range(1, len(ordered) + 1)]
    sizes = subset_sizes(DifficultyProfile.from_scores(values), epochs)
    for epoch, size in enumerate(sizes[:-1], start=1):
        aim = epoch / epochs * means[-1]
        assert means[size - 1] >= aim * (1 - 1e-9)
        assert size == 1 or means[size - 2] <= aim * (1 + 1e-9)


def test_float32_scores_are_summed_in_float64() -> None:
    values = np.full(1_000_000, 0.1, dtype=np.float32)
    assert DifficultyProfile.from_scores(values).cumulative[-1] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize(("curriculum", "published"), [("linear", 15_008), ("cosine", 24_299), ("none", 28_588)])
def test_the_iterations_of_table_5_come_out_of_the_plan(curriculum: str, published: int) -> None:
    made = plan(config(curriculum=curriculum, epochs=20, subset_repeat=1, optimizer={"batch_size": 8}), samples=11_435)
    assert made.exact
    assert made.planned.total_iterations == pytest.approx(published, rel=1e-3)


def test_da_kd_takes_the_hardest_first_and_ever_fewer_with_the_papers_share_of_the_iterations() -> None:
    made = plan(config(preset="dakd", optimizer={"batch_size": 8}), samples=11_435)
    assert made.planned.total_iterations / 28_588 == pytest.approx(0.525, abs=1e-3)
    sizes = [epoch.subset_size for epoch in made.planned.epochs]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (11_435, math.ceil(11_435 / 20))
    assert subset_sizes(SMALL, 3, "dakd", floor=3) == [6, 4, 3]


def test_progressive_overload_takes_as_many_iterations_as_twenty_epochs_over_all_samples() -> None:
    made = plan(config(preset="srkl_pocl", optimizer={"batch_size": 8}), samples=11_435)
    assert made.planned.total_iterations == pytest.approx(28_588, rel=1e-3)
    assert [epoch.alpha for epoch in made.planned.epochs[::8]] == [0.3, 0.2, 0.1, 0.0]
    assert made.planned.epochs[-1].temperature == 2.0


def test_a_profile_from_the_hard_end_is_that_of_the_reversed_order() -> None:
    hard = SMALL.hardest_first()
    assert hard.order.tolist() == [5, 4, 3, 2, 1, 0]
    assert hard.cumulative.tolist() == pytest.approx([8, 8, 20 / 3, 22 / 4, 23 / 5, 4], abs=1e-12)
    assert hard.totals([1, 2, 3, 4, 5, 6]).tolist() == [6, 11, 15, 18, 20, 21]
    assert hard.descending
    assert not SMALL.descending


@pytest.mark.parametrize("curriculum", ["none", "linear", "calibrated", "dakd", "baby_step"])
def test_a_budget_of_steps_is_kept_by_every_curriculum_and_shared_by_size(curriculum: str) -> None:
    spec = config(curriculum=curriculum, epochs=4, budget={"amount": 61}, optimizer={"batch_size": 2})
    made = plan(spec, samples=6, profile=SMALL, supervised_tokens=[1, 1, 2, 2, 3, 3])
    assert made.planned.total_iterations == 61
    assert made.bounds == (61, 61)
    whole = sum(epoch.subset_size for epoch in made.planned.epochs)
    for epoch in made.planned.epochs:
        assert epoch.visits == 2 * epoch.iterations
        assert epoch.iterations == pytest.approx(61 * epoch.subset_size / whole, abs=1.0)


def test_a_budget_of_epochs_is_what_so_many_passes_over_all_samples_take() -> None:
    spec = {"curriculum": "linear", "epochs": 3, "optimizer": {"batch_size": 8}}
    assert plan(config(**spec, budget={"epochs": 4}), samples=101).planned.total_iterations == 4 * 13
    assert plan(config(**spec, budget={"epochs": 0.5}), samples=101).planned.total_iterations == 6


def test_a_budget_of_tokens_is_met_as_nearly_as_whole_steps_allow() -> None:
    tokens = [10, 10, 20, 20, 90, 90]
    for curriculum in ("none", "linear", "dakd", "calibrated"):
        spec = config(
            curriculum=curriculum, epochs=4, budget={"unit": "tokens", "amount": 20_000}, optimizer={"batch_size": 2}
        )
        made = plan(spec, samples=6, profile=SMALL, supervised_tokens=tokens)
        assert made.planned.supervised_tokens == pytest.approx(20_000, rel=0.02)
    spec = config(curriculum="none", epochs=4, budget={"unit": "tokens", "epochs": 25.0}, optimizer={"batch_size": 2})
    assert plan(spec, samples=6, supervised_tokens=tokens).planned.supervised_tokens == 25 * 240


@pytest.mark.parametrize("budget", [{"epochs": 0.4}, {"amount": 10_000_000}, {"epochs": 2.5}])
def test_a_budget_of_tokens_refuses_nothing_while_the_tokens_are_unknown(budget: dict[str, float]) -> None:
    spec = config(budget={"unit": "tokens", **budget}, optimizer={"batch_size": 16})
    guess = plan(spec, samples=100).planned
    assert guess.total_iterations >= len(guess.epochs)
    if budget == {"epochs": 2.5}:
        assert plan(spec, samples=1600).planned.total_iterations == 250


def test_a_budget_that_leaves_an_epoch_without_a_step_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="3 optimizer steps do not give each of 4 epochs one"):
        plan(config(epochs=4, budget={"amount": 3}), samples=6)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(0, 5000))
def test_steps_are_dealt_in_proportion_to_the_last_one(shares: list[int], more: int) -> None:
    total = len(shares) + more
    dealt = fitted(shares, total)
    assert sum(dealt) == total
    assert min(dealt) >= 1


def test_the_paper_preset_warns_of_its_dead_last_epoch_and_the_recommended_one_has_none() -> None:
    paper, ours = plan(config(preset="paper"), samples=500), plan(config(), samples=500)
    assert [e.epoch for e in paper.planned.epochs if e.dead] == [20]
    assert [w.code for w in paper.warnings] == ["dead_epoch"]
    assert not any(e.dead for e in ours.planned.epochs)
    assert ours.warnings == ()


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_mixing_that_moves_within_an_epoch_leaves_none_without_a_teacher(epochs: int) -> None:
    for preset in ("taid", "cpd"):
        made = plan(config(preset=preset, alpha=0.0, epochs=epochs, mixing={"kind": "step"}), samples=100)
        assert not any(epoch.dead for epoch in made.planned.epochs)
        assert made.warnings == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"alpha": 0.0, "mixing": {"kind": "fixed", "value": 1.0}},
        {"alpha": 0.0, "divergence": "sft"},
        {"alpha": 0.0, "mixing": {"kind": "linear"}, "epochs": 1},
    ],
)
def test_a_run_without_any_gradient_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(NothingToLearn, match="no step of this run has a gradient"):
        plan(config(**fields), samples=100)


def test_the_plan_of_a_calibrated_curriculum_is_an_estimate_until_the_profile_is_there() -> None:
    spec = config(epochs=4, subset_repeat=1, optimizer={"batch_size": 2})
    guess = plan(spec, samples=6)
    real = plan(spec, samples=6, profile=SMALL, supervised_tokens=[10, 10, 20, 30, 40, 50])
    assert not guess.exact
    assert guess.bounds[0] <= real.planned.total_iterations <= guess.bounds[1]
    assert real.exact
    assert [e.subset_size for e in real.planned.epochs] == [2, 4, 5, 6]
    assert [e.iterations for e in real.planned.epochs] == [1, 2, 3, 3]
    assert real.planned.supervised_tokens == 20 + 70 + 110 + 160


def test_a_profile_of_equal_scores_is_called_degenerate() -> None:
    made = plan(config(epochs=3), samples=50, profile=DifficultyProfile.from_scores([2.0] * 50))
    assert "degenerate_profile" in [w.code for w in made.warnings]


def test_a_target_below_the_easiest_samples_is_said_to_be_floored() -> None:
    made = plan(config(epochs=10), samples=100, profile=DifficultyProfile.from_scores(np.linspace(5.0, 6.0, 100)))
    assert [w.code for w in made.warnings] == ["floored_subset"]


def test_no_samples_and_fewer_samples_than_a_batch_are_said() -> None:
    with pytest.raises(ConfigInvalid):
        plan(config(), samples=0)
    assert [w.code for w in plan(config(preset="kld"), samples=5).warnings] == ["small_dataset"]


def test_ce_scores_are_mean_and_sum_over_supervised_tokens() -> None:
    sums, tokens = np.array([6.0, 8.0, 0.0]), np.array([3, 8, 0])
    mean = scores("ce_mean", student_ce_sum=sums, supervised_tokens=tokens)
    total = scores("ce_sum", student_ce_sum=sums, supervised_tokens=tokens)
    teacher = scores("teacher_ce", student_ce_sum=sums, supervised_tokens=tokens, teacher_ce_sum=sums / 2)
    assert mean[:2].tolist() == [2.0, 1.0]
    assert total[:2].tolist() == [6.0, 8.0]
    assert teacher[:2].tolist() == [1.0, 0.5]
    ratio = scores("dds", student_ce_sum=sums, supervised_tokens=tokens, teacher_ce_sum=np.array([3.0, 0.0, 0.0]))
    assert ratio[:2].tolist() == [2.0, math.inf]
    entropy = scores("entropy", student_ce_sum=sums, supervised_tokens=tokens, student_entropy_sum=3.0 * sums)
    assert entropy[:2].tolist() == [6.0, 3.0]
    assert all(math.isnan(s[2]) for s in (mean, total, teacher, ratio, entropy))
    with pytest.raises(ValueError, match="entropy needs the student's entropy"):
        scores("entropy", student_ce_sum=sums, supervised_tokens=tokens)
    with pytest.raises(ValueError, match="dds needs the teacher's cross-entropy"):
        scores("dds", student_ce_sum=sums, supervised_tokens=tokens)


def test_the_subsets_of_a_million_samples_grow_strictly() -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, 1_000_000)
    sizes = subset_sizes(DifficultyProfile.from_scores(values), 20)
    assert all(a < b for a, b in itertools.pairwise(sizes))


def test_calibrated_mixing_follows_the_difficulty_of_the_subsets() -> None:
    wanted = config(
        epochs=4, curriculum="calibrated", mixing={"kind": "calibrated", "end": 0.8}, optimizer={"batch_size": 1}
    )
    known = plan(wanted, samples=6, profile=SMALL).planned.epochs
    # L̄ of 1, 4, 5 and 6 samples: 1, 2, 3.2 and 4.
    assert [epoch.mixing for epoch in known] == pytest.approx([0.2, 0.4, 0.64, 0.8])
    before = plan(wanted, samples=6).planned.epochs
    assert [epoch.mixing for epoch in before] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    # With end 1 the last epoch, which has all samples, distils nothing, as with `linear`.
    whole = plan(config(epochs=4, mixing={"kind": "calibrated"}), samples=6, profile=SMALL)
    assert whole.planned.epochs[-1].dead


def test_the_difficulty_by_answers_is_what_rouge_l_lacks() -> None:
    ce, tokens, rouge = np.array([2.0, 9.0, 1.0]), np.array([2, 3, 0]), np.array([0.25, 1.0, 0.5])
    found = scores("rouge_l", student_ce_sum=ce, supervised_tokens=tokens, student_rouge_l=rouge)
    assert found[:2].tolist() == [0.75, 0.0]
    assert math.isnan(found[2])
    with pytest.raises(ValueError, match="rouge_l needs the student's answers"):
        scores("rouge_l", student_ce_sum=ce, supervised_tokens=tokens)


def test_fused_ranks_are_the_reciprocal_ranks_summed_and_start_at_the_easiest() -> None:
    found = fused(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.1, 0.5]))
    # Ranks 1, 2, 3 and, of two equal ones, 2.5, 1, 2.5.
    nearness = [1 / 61 + 1 / 62.5, 1 / 62 + 1 / 61, 1 / 63 + 1 / 62.5]
    assert found.tolist() == pytest.approx([max(nearness) - one for one in nearness], abs=1e-15)
    assert min(found) == 0.0
    assert np.isnan(fused(np.array([1.0, np.nan]), np.array([0.0, 0.0]))).tolist() == [False, True]


def test_right_and_wrong_answers_are_ordered_by_the_student_s_cross_entropy_and_then_by_id() -> None:
    ce, tokens = np.array([6.0, 2.0, 4.0, 2.0, 8.0]), np.array([2, 2, 2, 2, 2])
    failed = np.array([0.0, 1.0, 0.0, 1.0, np.nan])
    found = scores("answer", student_ce_sum=ce, supervised_tokens=tokens, student_failing=failed)
    profile = DifficultyProfile.from_scores(found, ranks_by(ce / tokens, np.array([0, 4, 1, 2, 3])))
    # Right: 2 before 0 by CE. Wrong: 3 before 1, whose id is the later of two equal ones.
    assert profile.order.tolist() == [2, 0, 3, 1]
    assert profile.cumulative.tolist() == [0.0, 0.0, 1 / 3, 0.5]
    assert profile.unscored == 1
    shares = scores("tests", student_ce_sum=ce, supervised_tokens=tokens, student_failing=failed / 4)
    assert shares[:4].tolist() == [0.0, 0.25, 0.0, 0.25]
    with pytest.raises(ValueError, match="tests needs the student's answers"):
        scores("tests", student_ce_sum=ce, supervised_tokens=tokens)


def test_where_every_answer_is_wrong_the_remark_names_what_orders_them() -> None:
    wrong = DifficultyProfile.from_scores([1.0] * 50)
    for difficulty, order in (("answer", "the student's cross-entropy"), ("rouge_l", "the sample ids")):
        made = plan(config(epochs=3, difficulty=difficulty), samples=50, profile=wrong)
        (told,) = [warned.message for warned in made.warnings if warned.code == "degenerate_profile"]
        assert f"the order is that of {order}" in told


@pytest.mark.parametrize("difficulty", ["answer", "tests"])
def test_what_training_does_not_see_cannot_be_ranked_anew(difficulty: str) -> None:
    with pytest.raises(ConfigInvalid, match="refresh_every: training sees the student's cross-entropy only"):
        plan(config(difficulty=difficulty, refresh_every=1), samples=50)
