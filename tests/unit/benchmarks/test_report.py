"""From measurements to rows, ratios and a CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.engine.comparison import Measured
from benchmarks.engine.report import Conditions, difference, rows, table, write


def _measured(
    variant: str,
    cpu_s: float,
    added_bytes: int = 10**9,
    fingerprint: tuple[float, ...] = (3.0, 4.0),
    order: str = "random",
) -> Measured:
    return Measured(
        variant=variant,
        pair="gpt2",
        order=order,
        seed=1,
        threads=1,
        steps=4,
        samples=32,
        tokens=4000,
        supervised=2000,
        cpu_s=cpu_s,
        system_s=0.0,
        wall_s=cpu_s,
        added_bytes=added_bytes,
        useful_flops=10**11,
        gemm_flops_per_s=10**11,
        fingerprint=fingerprint,
    )


def test_of_repeated_measurements_the_least_time_and_the_most_memory_count() -> None:
    (row,) = rows([_measured("trl", 9.0, 2 * 10**9), _measured("trl", 8.0, 10**9), _measured("trl", 8.5)])

    assert (row.cpu_s, row.added_mb) == (8.0, 2000.0)


def test_a_share_of_the_peak_is_useful_work_over_what_the_process_could_have_done() -> None:
    (row,) = rows([_measured("trl", 4.0)])

    assert row.peak_share == 0.25


def test_a_variant_is_compared_with_the_one_that_computes_the_same() -> None:
    found = rows([_measured("trl", 9.0), _measured("padded", 12.0), _measured("cpd", 2.0, fingerprint=(3.0, 4.5))])

    assert [row.difference for row in found] == [None, None, 0.1]


def test_ratios_are_taken_within_a_setting() -> None:
    measured = [
        *(_measured("trl", 9.0, 12 * 10**8), _measured("padded", 12.0), _measured("cpd", 1.5, 10**8)),
        *(_measured("trl", 4.5, order="sorted"), _measured("cpd", 1.5, order="sorted")),
        _measured("score_cpd", 1.0, order="sorted"),
    ]

    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(rows(measured)).splitlines()[2:]]

    ratios = {(cells[1], cells[2]): cells[5:7] + cells[8:9] for cells in lines}
    assert ratios["random", "cpd"] == ["6.0", "8.0", "12.0"]
    assert ratios["sorted", "cpd"] == ["3.0", "–", "1.0"]
    assert ratios["sorted", "score_cpd"] == ["–", "–", "–"]


def test_every_row_of_the_csv_tells_its_conditions(tmp_path: Path) -> None:
    here = Conditions(
        date="2026-01-02",
        commit="abc",
        machine="a processor",
        cores=2,
        python="3.11",
        torch="2.13",
        transformers="5.23",
        trl="1.16",
    )

    write(tmp_path / "kept.csv", rows([_measured("trl", 9.0), _measured("padded", 12.0)]), here)

    with (tmp_path / "kept.csv").open(encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    assert [(row["variant"], row["cpu_s"], row["commit"], row["trl"]) for row in kept] == [
        ("trl", "9.0", "abc", "1.16"),
        ("padded", "12.0", "abc", "1.16"),
    ]


def test_a_difference_is_relative_to_the_plain_result() -> None:
    assert difference((3.0, 4.0), (3.0, 4.0)) == 0.0
    assert difference((3.0, 4.0), (0.0, 0.0)) == pytest.approx(1.0)
