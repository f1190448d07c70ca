"""Parameter counts against the models that transformers builds, and the forecast's arithmetic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from api.jobs.costs import SYNTHETIC_CHARACTERS, SYNTHETIC_RESPONSE_CHARACTERS
from cpd_engine.config import LoraSpec, RunConfig, TinyModel
from cpd_engine.data.encode import encode
from cpd_engine.data.records import Row, read_rows
from cpd_engine.data.synthetic import synthesize
from cpd_engine.forecast import Forecast, forecast, keeps_states
from cpd_engine.models.decoder import wrap
from cpd_engine.models.lora import attach_lora
from cpd_engine.models.tiny import tiny_config, train_tokenizer
from cpd_engine.plan import plan
from cpd_engine.shapes import adapter_parameters, shape_of, tiny_shape, without_layers

TEXTS = [f"{row['instruction']} {row['input']} {row['output']}" for row in synthesize(480, 0)["train"]]

CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 500, "n_positions": 128},
    "llama": {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 176,
        "vocab_size": 500,
        "tie_word_embeddings": False,
    },
    "qwen2": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 300,
        "tie_word_embeddings": True,
    },
}


@pytest.mark.parametrize("family", CONFIGS)
def test_the_parameters_told_from_config_json_are_those_of_the_model(family: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **CONFIGS[family]))
    shape = shape_of(CONFIGS[family] | {"model_type": family})
    assert shape is not None
    assert shape.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize(("layers", "hidden", "heads"), [(3, 96, 4), (2, 64, 2), (4, 128, 4)])
def test_the_parameters_of_a_tiny_model_are_those_that_are_built(
    kind: str, layers: int, hidden: int, heads: int
) -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    told = {"tiny": kind, "layers": layers, "hidden": hidden, "heads": heads, "vocabulary": len(tokenizer)}
    ref = TinyModel.model_validate(told)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny_config(ref, tokenizer, max_positions=200))
    assert tiny_shape(ref, 200).parameters == sum(p.numel() for p in model.parameters())


def test_a_synthetic_row_is_as_long_as_the_estimate_takes_it_to_be() -> None:
    rows = synthesize(4800, 0)["train"]
    lengths = [len(row["instruction"]) + len(row["input"]) + len(row["output"]) for row in rows]
    assert sum(lengths) / len(lengths) == pytest.approx(SYNTHETIC_CHARACTERS, rel=0.03)
    responses = [len(row["output"]) for row in rows]
    assert sum(responses) / len(responses) == pytest.approx(SYNTHETIC_RESPONSE_CHARACTERS, rel=0.1)


def test_the_tokens_of_the_demo_s_rows_are_forecast_to_a_tenth() -> None:
    rows = synthesize(4800, 0)["train"]
    tokenizer = train_tokenizer((row[part] for row in rows for part in ("instruction", "input", "output")), 512)
    spec = small(teacher={"tiny": "llama"}, student={"tiny": "llama"}, template="chat")
    encoded = encode(list(read_texts(rows)), tokenizer, template="chat", max_length=512, overlong="drop")
    true = sum(len(sample.input_ids) for sample in encoded.samples)
    planned = plan(spec, samples=len(rows)).planned
    made = forecast(
        spec, planned, teacher=None, student=None, characters=SYNTHETIC_CHARACTERS * len(rows), response_characters=0
    )
    visits = planned.total_iterations * planned.batch_size / len(rows)
    assert made.tokens == pytest.approx(true * visits, rel=0.1)


def test_a_config_that_tells_too_little_has_no_shape() -> None:
    assert shape_of({"vocab_size": 10}) is None


def read_texts(rows: list[dict[str, str]]) -> Iterator[Row]:
    """The rows as a job reads them."""
    for row in read_rows(json.dumps(row).encode() for row in rows):
        assert isinstance(row, Row)
        yield row


def small(**fields: object) -> RunConfig:
    given: dict[str, object] = {
        "teacher": {"local": "t"},
        "student": {"local": "s"},
        "dataset": {"train": "rows.jsonl"},
        "preset": "kld",
        "epochs": 2,
    }
    return RunConfig.model_validate(given | fields).resolved()


def test_a_job_of_twice_the_epochs_takes_about_twice_the_time_and_the_same_memory() -> None:
    teacher, student = shape_of(CONFIGS["llama"] | {"model_type": "llama"}), shape_of(CONFIGS["gpt2"])
    short, long = small(), small(epochs=4)
    once, twice = (
        forecast(
            c,
            plan(c, samples=1000).planned,
            teacher=teacher,
            student=student,
            characters=400_000,
            response_characters=100_000,
            flops_per_s=1e10,
        )
        for c in (short, long)
    )
    assert once.duration_s is not None
    assert twice.duration_s is not None
    assert twice.duration_s == pytest.approx(2 * once.duration_s, rel=0.2)
    assert once.memory_bytes == twice.memory_bytes
    # 400 characters of text and 166 of template in each row, both epochs.
    assert once.tokens == pytest.approx(2 * 1000 * (400 + 166) / 4)
    assert (
        once.error_factor
        < forecast(
            short,
            plan(short, samples=10).planned,
            teacher=teacher,
            student=student,
            characters=10,
            response_characters=1,
        ).error_factor
    )


TEACHER = shape_of(CONFIGS["llama"] | {"model_type": "llama"})
STUDENT = shape_of(CONFIGS["gpt2"])


def cost(config: RunConfig) -> Forecast:
    planned = plan(config, samples=1000).planned
    return forecast(
        config,
        planned,
        teacher=TEACHER,
        student=STUDENT,
        characters=400_000,
        response_characters=100_000,
        flops_per_s=1e10,
    )


def test_kept_states_take_a_hidden_state_a_supervised_token_and_spare_the_teachers_passes() -> None:
    kept, anew = cost(small()), cost(small(teacher={"local": "t", "cache": "off"}))
    assert TEACHER is not None
    # 100 characters of response in each of 1,000 rows, and an end token.
    assert kept.cache_bytes == (100_000 / 4 + 1000) * TEACHER.hidden * 4
    assert anew.cache_bytes == 0
    assert kept.disk_bytes == anew.disk_bytes + kept.cache_bytes  # type: ignore[operator]  # known for known shapes
    assert kept.tokens_per_s > anew.tokens_per_s  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"epochs": 1}, False),
        ({"epochs": 2}, True),
        ({"epochs": 1, "subset_repeat": 2}, True),
        ({"preset": "sft"}, False),
        ({"preset": "sft", "evaluation": {"baselines": ["kld"]}}, True),
    ],
)
def test_states_are_kept_where_samples_are_met_again_under_the_teacher(changes: dict[str, Any], kept: bool) -> None:
    assert keeps_states(small(**changes)) is kept


def test_memory_grows_with_the_micro_batch_and_not_with_the_vocabulary_times_its_tokens() -> None:
    small_batch, large_batch = (
        cost(small(optimizer={"batch_size": 64, "micro_batch_tokens": tokens})) for tokens in (512, 4096)
    )
    assert small_batch.memory_bytes < large_batch.memory_bytes  # type: ignore[operator]  # known for known shapes
    assert STUDENT is not None
    planned = plan(small(), samples=1000).planned
    narrow, wide = (
        forecast(
            small(),
            planned,
            teacher=TEACHER,
            student=replace(STUDENT, vocabulary=vocabulary),
            characters=400_000,
            response_characters=100_000,
        )
        for vocabulary in (150_000, 300_000)
    )
    # Two chunks of logits and the gradient of the head.
    grown = wide.memory_bytes - narrow.memory_bytes  # type: ignore[operator]
    assert grown == 4 * 150_000 * (2 * 256 + STUDENT.hidden)


def test_an_adapter_is_as_large_as_peft_makes_it() -> None:
    spec = LoraSpec(rank=4)
    for family, config in CONFIGS.items():
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config))
        tokenizer = train_tokenizer(TEXTS, 290)
        adapted = attach_lora(wrap(model, tokenizer), spec, seed=0)
        true = sum(p.numel() for p in adapted.model.parameters() if p.requires_grad)
        shape = shape_of(config | {"model_type": family})
        assert shape is not None
        assert adapter_parameters(shape, spec) == true


def test_an_unknown_model_leaves_its_figures_open_and_says_why() -> None:
    made = forecast(
        small(), plan(small(), samples=10).planned, teacher=None, student=None, characters=4000, response_characters=400
    )
    assert made.memory_bytes is None
    assert made.duration_s is None
    assert any("hub" in line for line in made.assumptions)


def test_a_student_without_some_layers_is_smaller_by_those_layers() -> None:
    shape = shape_of(CONFIGS["llama"] | {"model_type": "llama"})
    fewer = shape_of(CONFIGS["llama"] | {"model_type": "llama", "num_hidden_layers": 1})
    assert shape is not None
    assert fewer is not None
    assert without_layers(shape, 2) == fewer


def test_on_policy_every_step_has_the_teacher_in_it_and_the_time_of_answers_is_said_to_be_left_out() -> None:
    gkd = {"preset": "gkd", "teacher": {"local": "t", "cache": "memory"}}
    off, on = cost(small(**gkd, policy={"kind": "off"})), cost(small(**gkd))
    assert on.tokens_per_s < off.tokens_per_s  # type: ignore[operator]  # known for known shapes
    assert on.cache_bytes == off.cache_bytes != 0
    assert [line for line in on.assumptions if line not in off.assumptions] == [
        "time of the student's own answers left out, which are taken to be as long as the data's"
    ]
