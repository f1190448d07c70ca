"""The study's own machinery: what it runs, what it keeps, what it concludes. Models are not needed for any of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from benchmarks.quality.analysis import Scored, difference, overall, scored, standing
from benchmarks.quality.families import FAMILIES, Family
from benchmarks.quality.figures import draw
from benchmarks.quality.ledger import Ledger, Record, Unit, packed, unpacked
from benchmarks.quality.materials import corrupted, rows
from benchmarks.quality.methods import ABLATIONS, SYSTEMS, UNTEMPERED, heavy_alpha
from benchmarks.quality.report import confirming, tables
from benchmarks.quality.study import Setting, ablations, carry_out, chosen, rates, scores, temperatures
from benchmarks.quality.unit import Place, spec_of

TASKS = FAMILIES["tasks"]
ANCHORS = {"teacher": {"exact_match": 80.0}, "untouched": {"exact_match": 10.0}}


def _record(unit: Unit, *, right: Sequence[float] = (1.0, 0.0), validation: float = 50.0) -> Record:
    return Record(
        unit=unit,
        scores={"exact_match": 100.0 * float(np.mean(right))} if unit.role == "score" else {},
        validation=validation,
        rows={"exact_match": packed(np.array(right))} if unit.role == "score" else {},
        anchors=ANCHORS if unit.role == "score" else {},
        steps=800,
        tokens=1000,
        cpu_s=1.0,
        commit="c",
    )


def _runner(ledger: Ledger, made: list[Unit], value: Callable[[Unit], float]) -> Callable[[Sequence[Unit]], None]:
    def run(units: Sequence[Unit]) -> None:
        for unit in units:
            if unit.key not in ledger.records:
                made.append(unit)
                ledger.add(_record(unit, validation=value(unit)))

    return run


def test_each_method_is_scored_at_the_temperature_and_rate_that_validation_chose(tmp_path: Path) -> None:
    ledger, made = Ledger(tmp_path / "r.jsonl"), list[Unit]()
    best = {"kld": (4.0, 4.0, 1e-3), "srkl": (1.0, 2.0, 5e-4), "sft": (0.0, 0.0, 2.5e-4)}

    def value(unit: Unit) -> float:
        tau_1, tau_n, rate = best.get(unit.method, (1.0, 1.0, 5e-4))
        return 10.0 * ((unit.tau_1, unit.tau_n) == (tau_1, tau_n)) + (unit.learning_rate == rate)

    carry_out(TASKS, ("sft", "kld", "srkl"), ledger, _runner(ledger, made, value), ablate=True)
    for method, (tau_1, tau_n, rate) in best.items():
        found = [unit for unit in made if unit.method == method and unit.role == "score"]
        assert [unit.seed for unit in found] == list(TASKS.seeds)
        assert {(unit.tau_1, unit.tau_n, unit.learning_rate) for unit in found} == {(tau_1, tau_n, rate)}
        assert not {unit.seed for unit in found} & set(TASKS.tuning_seeds)
    variants = [unit for unit in made if unit.method in ABLATIONS]
    assert len(variants) == len(ABLATIONS) * len(TASKS.seeds)
    assert {(unit.tau_1, unit.learning_rate) for unit in variants} == {(4.0, 1e-3)}


def test_a_study_that_was_cut_off_runs_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    ledger, made = Ledger(path), list[Unit]()
    carry_out(TASKS, ("kld",), ledger, _runner(ledger, made, lambda unit: unit.tau_1), ablate=False)
    # The last line was being written when the machine went down.
    path.write_bytes(path.read_bytes()[:-30])
    again, missing = Ledger(path), list[Unit]()
    carry_out(TASKS, ("kld",), again, _runner(again, missing, lambda unit: unit.tau_1), ablate=False)
    assert missing == made[-1:]
    assert Ledger(path).records == ledger.records


def test_nothing_is_chosen_while_a_run_is_missing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "r.jsonl")
    units = temperatures(TASKS, "kld")
    for unit in units[1:]:
        ledger.add(_record(unit))
    assert chosen(TASKS, "kld", ledger) is None
    ledger.add(_record(units[0], validation=99.0))
    for unit in rates(TASKS, "kld", units[0].tau_1, units[0].tau_n):
        ledger.add(_record(unit, validation=99.0 + unit.learning_rate))
    assert chosen(TASKS, "kld", ledger) == Setting(tau_1=1.0, tau_n=1.0, learning_rate=1e-3)


def test_where_less_is_better_the_smallest_validation_is_chosen(tmp_path: Path) -> None:
    dolly, ledger = FAMILIES["dolly"], Ledger(tmp_path / "r.jsonl")
    for unit in temperatures(dolly, "kld"):
        ledger.add(_record(unit, validation=1.0 if unit.tau_1 == 2.0 else 2.0))
    for unit in rates(dolly, "kld", 2.0, 2.0):
        ledger.add(_record(unit, validation=unit.learning_rate))
    assert chosen(dolly, "kld", ledger) == Setting(tau_1=2.0, tau_n=2.0, learning_rate=min(dolly.learning_rates))


def test_what_is_confirmed_has_the_settings_of_the_family_that_showed_it_and_chooses_none(tmp_path: Path) -> None:
    ledger, made = Ledger(tmp_path / "r.jsonl"), list[Unit]()
    fresh = FAMILIES["tasks_fresh"]
    run = _runner(ledger, made, lambda unit: unit.tau_1)
    carry_out(TASKS, ("kld",), ledger, run, ablate=False)
    before = len(made)
    carry_out(fresh, ("kld", "srkl"), ledger, run, ablate=True, settled_in=TASKS)
    own = made[before:]
    # Nothing was chosen for srkl, so nothing of it is confirmed.
    assert [(unit.family, unit.role, unit.method, unit.seed) for unit in own] == [
        ("tasks_fresh", "score", "kld", seed) for seed in fresh.seeds
    ]
    assert {(unit.tau_1, unit.learning_rate) for unit in own} == {(8.0, TASKS.learning_rates[0])}


def test_no_two_families_and_no_choice_and_score_share_a_draw_of_rows() -> None:
    seeds = [seed for family in FAMILIES.values() for seed in (*family.tuning_seeds, *family.seeds)]
    assert len(seeds) == len(set(seeds))
    assert len({family.test_seed for family in FAMILIES.values()}) == len(FAMILIES)


def test_runs_with_another_teacher_or_of_another_family_are_made_again(tmp_path: Path) -> None:
    ledger, made = Ledger(tmp_path / "r.jsonl"), list[Unit]()
    grown = replace(TASKS, seeds=(*TASKS.seeds, 99), learning_rates=(*TASKS.learning_rates, 2e-3))
    for family, missing in ((TASKS, True), (grown, True), (replace(TASKS, models="other"), True), (TASKS, False)):
        before = len(made)
        carry_out(family, ("kld",), ledger, _runner(ledger, made, lambda unit: unit.tau_1), ablate=False)
        assert (len(made) > before) is missing
    # A longer grid and more seeds add runs, another teacher starts again.
    of = [unit.setup for unit in made]
    assert len(set(of)) == 2
    assert of.count(replace(TASKS, models="other").setup) == len(temperatures(TASKS, "kld")) + len(TASKS.seeds) + 4
    assert replace(TASKS, steps=1).setup != TASKS.setup


def test_scores_of_another_setup_or_setting_are_not_mixed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "r.jsonl")
    old, new = (Setting(tau_1=tau, tau_n=tau, learning_rate=1e-3) for tau in (1.0, 2.0))
    for unit in (*scores(replace(TASKS, models="other"), "sft", new), *scores(TASKS, "kld", old)):
        ledger.add(_record(unit))
    for unit in scores(TASKS, "kld", new)[:2]:
        ledger.add(_record(unit))
    found = scored(ledger.records.values(), "tasks")
    assert {method: sorted(of) for method, of in found.items()} == {"kld": list(TASKS.seeds[:2])}
    assert {record.unit.tau_1 for record in found["kld"].values()} == {2.0}


def test_every_seed_has_rows_of_dolly_that_no_other_has(tmp_path: Path) -> None:
    dolly = replace(FAMILIES["dolly"], training_rows=20, validation_rows=5, test_rows=10)
    lines = [{"instruction": f"Say {i % 190}", "input": "", "output": f"{i}"} for i in range(200)]
    lines.append({"instruction": "long", "input": "", "output": "x" * 1000})
    file = tmp_path / "dolly.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    seen: list[str] = []
    tests = set()
    for seed in (*dolly.tuning_seeds, *dolly.seeds):
        files = rows(tmp_path / "work", dolly, seed, file)
        text = {split: path.read_text("utf-8") for split, path in files.items()}
        tests.add(text["test"])
        seen += [
            json.loads(line)["instruction"] for split in ("train", "validation") for line in text[split].splitlines()
        ]
    assert len(tests) == 1
    seen += [json.loads(line)["instruction"] for line in tests.pop().splitlines()]
    assert len(seen) == len(set(seen)) == 4 * 25 + 10
    assert "long" not in seen
    with pytest.raises(ValueError, match="too few short rows"):
        rows(tmp_path / "more", replace(dolly, training_rows=60), dolly.seeds[-1], file)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_every_method_is_a_job_of_the_same_steps_validated_equally_often(family: Family, tmp_path: Path) -> None:
    place = Place(work=tmp_path, teacher="t", student="s", files={"train": tmp_path / "rows"}, commit="c")
    setting = Setting(tau_1=2.0, tau_n=4.0, learning_rate=1e-3)
    units = [scores(family, method, setting)[0] for method in SYSTEMS] + ablations(family, setting)[: len(ABLATIONS)]
    assert len({unit.key for unit in units}) == len(units)
    for unit in units:
        config = spec_of(unit, family, place).resolved()
        assert config.budget is not None
        assert config.budget.amount == family.steps
        assert config.optimizer.learning_rate == 1e-3
        assert config.epochs is not None
        assert config.epochs / config.evaluation.every_epochs == 4
        assert config.evaluation.validation_metric == family.metric
        if unit.method == "temperature 1, KD as heavy":
            assert config.tau_1 == 1.0
            assert config.alpha == pytest.approx(0.3 / (0.3 + 16 * 0.7))
        elif unit.method not in UNTEMPERED:
            assert (config.tau_1, config.tau_n) == (2.0, 4.0)


def test_an_alpha_as_heavy_keeps_the_share_of_cross_entropy_without_the_squared_temperature() -> None:
    alpha = heavy_alpha(0.3, 4.0)
    assert (1.0 - alpha) / alpha == pytest.approx(16.0 * 0.7 / 0.3)
    assert heavy_alpha(0.3, 1.0) == pytest.approx(0.3)


def test_a_quarter_of_the_responses_is_another_rows_of_the_same_kind_and_the_rest_is_untouched() -> None:
    clean = [{"category": "ab"[i % 2], "output": f"{'ab'[i % 2]}{i % 20}", "id": str(i)} for i in range(200)]
    found = corrupted(clean, 0.25, Random(1))
    changed = [(old, new) for old, new in zip(clean, found, strict=True) if old != new]
    assert len(changed) == 50
    for old, new in changed:
        assert new["output"] != old["output"]
        assert new["output"][0] == old["category"]
        assert new | {"output": ""} == old | {"output": ""}
    assert corrupted(clean, 0.25, Random(1)) == found
    assert corrupted(clean, 0.0, Random(1)) == clean


def test_packed_rows_come_back() -> None:
    bits = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    assert unpacked(packed(bits)).tolist() == bits.tolist()
    numbers = np.array([0.25, 3.1, 7.0])
    assert unpacked(packed(numbers)) == pytest.approx(numbers, rel=1e-3)


def _study(tmp_path: Path, gain: float, seeds: int = 5) -> Ledger:
    """Two methods in two families; the first one is right on `gain` more of the rows."""
    ledger, random = Ledger(tmp_path / "r.jsonl"), np.random.default_rng(3)
    for name in ("tasks", "tasks_corrupted"):
        family = FAMILIES[name]
        for method, share in (("kld", 0.4 + gain), ("srkl", 0.4)):
            for unit in scores(family, method, Setting(tau_1=1.0, tau_n=1.0, learning_rate=1e-3))[:seeds]:
                ledger.add(_record(unit, right=(random.random(2000) < share).astype(float).tolist()))
    return ledger


def test_a_difference_that_is_there_is_found_and_told_in_points_and_shares_of_the_gap(tmp_path: Path) -> None:
    ledger = _study(tmp_path, gain=0.07)
    of = scored(ledger.records.values(), "tasks")
    found = difference(of, "kld", "srkl", "tasks")
    assert found.mean == pytest.approx(7.0, abs=2.0)
    assert found.interval[0] < found.mean < found.interval[1]
    assert found.by_rows is not None
    assert found.by_rows < 1e-6
    assert found.by_seeds is not None
    assert found.by_seeds < 0.01
    assert standing(of["kld"], "tasks").gap_closed == pytest.approx((47.0 - 10.0) / 70.0, abs=0.02)
    whole = overall({name: scored(ledger.records.values(), name) for name in FAMILIES}, "kld", "srkl")
    assert whole.mean == pytest.approx(0.1, abs=0.02)
    assert whole.interval[0] > 0.0
    assert whole.p < 0.001


def test_a_difference_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    ledger = _study(tmp_path, gain=0.0)
    whole = overall({name: scored(ledger.records.values(), name) for name in FAMILIES}, "kld", "srkl")
    assert whole.interval[0] < 0.0 < whole.interval[1]
    assert whole.p > 0.05


def test_one_seed_is_no_evidence(tmp_path: Path) -> None:
    ledger = _study(tmp_path, gain=0.07, seeds=1)
    of = scored(ledger.records.values(), "tasks")
    assert difference(of, "kld", "srkl", "tasks").by_seeds is None
    assert standing(of["kld"], "tasks").half_width("exact_match") is None
    with pytest.raises(ValueError, match="only one seed"):
        overall({"tasks": of}, "kld", "srkl")


def test_the_tables_name_every_method_its_settings_and_what_chance_leaves_of_a_difference(tmp_path: Path) -> None:
    ledger = _study(tmp_path, gain=0.07)
    for record in list(ledger.records.values()):
        more = {"rouge_l": 50.0, "ce": 1.0, "kl": 0.5}
        ledger.records[record.unit.key] = replace(record, scores=record.scores | more)
    variant = ablations(TASKS, Setting(tau_1=1.0, tau_n=1.0, learning_rate=1e-3), ["without CE"])[0]
    ledger.add(_record(variant, right=[1.0] * 2000))
    told = tables(ledger, "kld")
    assert "### `tasks`: the demo's tasks" in told
    assert "| **`kld`** | 1 | 0.001 | 5 |" in told
    assert "`kld` less each other method:" in told
    assert "| without CE | +5" in told
    last = told.split("### Over all families")[1]
    assert "| `srkl` | +10" in last or "| `srkl` | +9" in last or "| `srkl` | +11" in last
    assert "| `kld` |" not in last
    drawn = draw(ledger, "kld", tmp_path / "figures")
    assert [path.name for path in drawn] == ["methods.png", "ablations.png"]
    before = [path.read_bytes() for path in drawn]
    assert all(image.startswith(b"\x89PNG") for image in before)
    assert [path.read_bytes() for path in draw(ledger, "kld", tmp_path / "figures")] == before


def test_what_suggested_a_method_is_no_evidence_for_it_once_a_fresh_family_has_run() -> None:
    first: dict[str, Scored] = {"tasks": {"kld": {}, "srkl": {}}, "tasks_corrupted": {"kld": {}}}
    assert list(confirming(first, "kld")) == ["tasks", "tasks_corrupted"]
    begun: dict[str, Scored] = {**first, "tasks_fresh": {"kld": {}}, "dolly": {"kld": {}}}
    assert list(confirming(begun, "kld")) == ["tasks_corrupted", "tasks_fresh", "dolly"]
    assert list(confirming(begun, "srkl")) == ["tasks", "tasks_corrupted", "tasks_fresh", "dolly"]


def test_the_tables_of_a_study_that_has_just_begun_say_so(tmp_path: Path) -> None:
    assert "Not enough runs yet." in tables(Ledger(tmp_path / "r.jsonl"), "kld")
