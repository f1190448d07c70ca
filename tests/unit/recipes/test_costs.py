"""What the recipes plan and cost: the paper's printed iterations, bounds that arithmetic sets, and README's tables as they were written."""

from __future__ import annotations

import json
import math

import pytest
from transformers import AutoTokenizer

from cpd_engine.config import LoraSpec
from cpd_engine.data.encode import encode
from cpd_engine.data.records import Row, read_rows
from cpd_engine.shapes import adapter_parameters
from recipes.paper.__main__ import README, written
from recipes.paper.costs import FLOPS_PER_S, TEXTS, Priced, priced, resolved, tables
from recipes.paper.experiments import bases, experiment, experiments, job, recipe
from tests.shared_data import shared_data

GIB = 1 << 30


def steps(name: str, label: str) -> int:
    """Planned optimizer steps of a job whose plan needs no profile."""
    found = priced(resolved(job(experiment(name), label))).plan
    assert found.exact
    return found.planned.total_iterations


@pytest.mark.parametrize(
    ("name", "label", "printed"),
    [
        ("table6-gpt2", "KLD", 28_588),
        ("table5b-gpt2", "LS", 15_008),
        ("table5b-gpt2", "CS", 24_299),
        ("table5b-gpt2", "BSS", 28_588),
    ],
)
def test_the_plan_has_the_iterations_of_table_5(name: str, label: str, printed: int) -> None:
    assert steps(name, label) == pytest.approx(printed, rel=1e-3)


@pytest.mark.parametrize("label", ["SFT", "RKL", "TVD", "JSD", "SKL", "SRKL", "ABKD", "TAID", "KLD+POCL"])
@pytest.mark.parametrize("name", ["table1", "table6-gpt2", "table6-openllama2"])
def test_the_baselines_take_as_many_iterations_pocl_s_stages_too(name: str, label: str) -> None:
    assert steps(name, label) == pytest.approx(steps(name, "KLD"), rel=1e-3)


def test_da_kd_takes_52_5_percent() -> None:
    assert steps("table6-gpt2", "DA-KD") == pytest.approx(0.525 * steps("table6-gpt2", "KLD"), rel=1e-3)


def test_cpd_waits_for_the_profile_and_its_printed_iterations_lie_within_the_bounds() -> None:
    found = priced(resolved(job(experiment("table6-gpt2"), "CPD"))).plan
    least, most = found.bounds

    assert not found.exact
    assert least < 23_517 < most


def test_a_batch_of_128_over_four_epochs_of_20000_rows() -> None:
    assert steps("table2-math", "KLD") == steps("table2-code", "KLD") == 4 * 157
    assert steps("table2-math", "KLD+POCL") == 2 * (40 + 79 + 118 + 157)
    assert steps("table2-math", "DA-KD") == 313 + 235 + 157 + 79


@pytest.mark.parametrize("base", bases())
def test_memory_lies_between_what_must_be_there_and_what_cannot_be_more(base: str) -> None:
    made = priced(resolved(recipe(base)))
    # What is trained: weight, gradient and two moments in float32; and a frozen student under its adapter.
    student = 16 * made.trained + (4 * made.student.parameters if made.config.lora else 0)
    frozen = 2 * made.teacher.parameters
    tuned = 16 * made.teacher.parameters if made.config.teacher_sft else 0
    # One row of the longest that is taken keeps less than 64 floats a hidden unit in every layer.
    activations = 4 * 64 * made.config.max_length * max(one.hidden * one.layers for one in (made.teacher, made.student))

    assert max(student, frozen, tuned) <= made.memory_bytes <= max(student + frozen, tuned) + activations + 4 * GIB


@pytest.mark.parametrize("base", bases())
def test_time_is_the_arithmetic_of_the_stated_speed(base: str) -> None:
    made = priced(resolved(recipe(base)))
    passes = made.plan.planned.total_iterations * made.plan.planned.batch_size
    training = 6 * made.student.parameters * made.tokens / FLOPS_PER_S
    teacher = 6 * made.teacher.parameters * made.tokens / FLOPS_PER_S

    assert math.isfinite(made.duration_s)
    assert training < made.duration_s < training + teacher
    assert made.disk_bytes > made.cache_bytes >= 0
    assert made.tokens > passes


def test_every_job_has_a_price() -> None:
    for one in experiments().values():
        for label in one.labels():
            made = priced(resolved(job(one, label)))
            assert 0 < made.duration_s < math.inf, (one.name, label)
            assert 0 < made.memory_bytes < 200 * GIB, (one.name, label)


def test_what_is_trained_is_the_adapter_where_there_is_one() -> None:
    def trained(base: str) -> Priced:
        return priced(resolved(recipe(base)))

    assert trained("gpt2-0.1b").trained == 124_439_808
    llama = trained("openllama2-3b")
    assert llama.trained == adapter_parameters(llama.student, LoraSpec(rank=16)) == 16 * 61_120 * 26


def test_a_row_of_dolly_is_as_long_as_the_table_takes_it_to_be() -> None:
    rows = [json.loads(line) for line in shared_data("dolly", "train.jsonl").read_text().splitlines()]
    prompts = sum(len(row["instruction"]) + len(row["input"]) for row in rows)

    assert len(rows) == TEXTS["dolly"].rows
    assert prompts / len(rows) == pytest.approx(TEXTS["dolly"].prompt, abs=0.005)
    assert sum(len(row["output"]) for row in rows) / len(rows) == pytest.approx(TEXTS["dolly"].response, abs=0.005)


@pytest.mark.parametrize(("length", "longer"), [(1024, 38), (512, 202)])
def test_so_many_rows_of_dolly_are_longer_and_cut_they_all_stay(length: int, longer: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data("tokenizers", "gpt2"))
    rows = [
        row for row in read_rows(shared_data("dolly", "train.jsonl").read_bytes().splitlines()) if isinstance(row, Row)
    ]
    encoded = encode(rows, tokenizer, template="paper", max_length=length, overlong="truncate_response")

    assert (len(encoded.samples), encoded.truncated) == (TEXTS["dolly"].rows, longer)


def test_the_tables_of_the_readme_are_those_that_are_made() -> None:
    text = README.read_text(encoding="utf-8")

    assert text == written(text), "run `make recipes`"
    assert all(table in text for table in tables().values())
