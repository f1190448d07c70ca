"""The whole job's rows and its arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.engine.job import CURRICULA, PAIR, ROWS, TEST_ROWS, JobCost, recipe, write_rows
from benchmarks.engine.report import JobRow, job_table
from cpd_engine import pipeline
from cpd_engine.config import RunConfig
from cpd_engine.events import DataReady, Event
from cpd_engine.inputs import Inputs

PHASES = ("prepare", "profile", "train", "evaluate", "export")


def _cost(cache: str, train_cpu_s: float) -> JobCost:
    return JobCost(
        cache=cache,
        curriculum="calibrated",
        cpu_s={**dict.fromkeys(PHASES, 1.0), "train": train_cpu_s},
        samples=96,
        prompt_tokens=96 * 70,
        visits=96 * 21,
        visited_supervised=96 * 21 * 60,
    )


def test_the_rows_are_the_same_every_time(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    write_rows(tmp_path / "a")
    write_rows(tmp_path / "b")

    lines = [(tmp_path / name / "train.jsonl").read_text() for name in "ab"]
    assert lines[0] == lines[1]
    assert len(lines[0].splitlines()) == ROWS
    assert len((tmp_path / "a" / "test.jsonl").read_text().splitlines()) == TEST_ROWS


def test_the_rows_are_as_long_as_dolly_in_tokens(tmp_path: Path) -> None:
    class PreparedError(Exception):
        pass

    write_rows(tmp_path)
    config = RunConfig.model_validate(recipe("off", curriculum="calibrated", epochs=20, threads=1))
    found: list[DataReady] = []

    def emit(event: Event) -> None:
        if isinstance(event, DataReady):
            found.append(event)
            raise PreparedError

    with pytest.raises(PreparedError):
        pipeline.run(config, inputs=Inputs(base=tmp_path), out=tmp_path / "run", emit=emit, should_stop=lambda: False)

    # Half of Dolly's tokens are a response's, and no row is lost.
    assert found[0].rows["train"] == ROWS
    assert found[0].prompt_tokens / ROWS == pytest.approx(70, abs=5)
    assert found[0].supervised_tokens / ROWS == pytest.approx(68, abs=5)


@pytest.mark.parametrize("cache", ["off", "memory", "disk"])
@pytest.mark.parametrize("curriculum", CURRICULA)
def test_the_recipe_is_one_that_the_engine_takes(cache: str, curriculum: str) -> None:
    config = RunConfig.model_validate(recipe(cache, curriculum=curriculum, epochs=20, threads=1))

    assert config.resolved().curriculum == curriculum


def test_a_kept_teacher_saves_its_body_at_every_visit_but_one() -> None:
    cost = _cost("off", 10.0)

    saved = cost.useful_flops(kept=False) - cost.useful_flops(kept=True)

    assert saved == pytest.approx((cost.visits - cost.samples) * 2 * _body_weights() * 130, rel=0.06)


def test_the_table_tells_the_ratio_of_each_phase_and_of_the_whole() -> None:
    lines = job_table(_cost("off", 16.0), _cost("memory", 4.0)).splitlines()

    assert "| train | 16.0 | 4.0 | 4.00 |" in lines
    assert "| total | 20.0 | 8.0 | 2.50 |" in lines
    assert "21.0 visits a sample" in lines[-1]
    assert JobRow.of(_cost("off", 16.0)).total_cpu_s == 20.0


def _body_weights() -> int:
    return 12 * PAIR.teacher.layers * PAIR.teacher.hidden**2
