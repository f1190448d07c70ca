"""The paper's models: facts of their config.json against published counts, against transformers, and against the vocabulary rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from cpd_engine.config import LoraSpec
from cpd_engine.models.decoder import vocabulary_size, wrap
from cpd_engine.shapes import adapter_parameters
from recipes.paper.architectures import CONFIGS, QWEN_IDS, shape
from recipes.paper.experiments import bases, recipe
from tests.shared_data import shared_data

# As the published checkpoints count, shared weights once.
PUBLISHED = {
    "openai-community/gpt2": 124_439_808,
    "openai-community/gpt2-medium": 354_823_168,
    "openai-community/gpt2-large": 774_030_080,
    "openai-community/gpt2-xl": 1_557_611_200,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-Math-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-Math-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-Coder-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-Coder-7B-Instruct": 7_615_616_512,
    "openlm-research/open_llama_3b_v2": 3_426_473_600,
    "openlm-research/open_llama_7b_v2": 6_738_415_616,
}
# What Qwen2.5's model cards print, in billions: all weights, and those that are no embedding.
CARDS = {
    "Qwen/Qwen2.5-0.5B": (0.49, 0.36),
    "Qwen/Qwen2.5-1.5B": (1.54, 1.31),
    "Qwen/Qwen2.5-Math-7B-Instruct": (7.61, 6.53),
}
# What Qwen2.5 has beyond the 151,646 ids of Qwen1.5, in the order of their ids.
ADDED = (
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>"),
)


def on_meta(hub: str) -> Any:
    """The model as transformers builds it from these facts, without any memory."""
    given = dict(CONFIGS[hub])
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(given.pop("model_type"), **given))


def test_every_model_of_a_recipe_is_known() -> None:
    named = {recipe(base)[role]["hub"] for base in bases() for role in ("teacher", "student")}

    assert named == set(CONFIGS) == set(PUBLISHED)


@pytest.mark.parametrize("hub", CONFIGS)
def test_a_model_of_the_paper_has_as_many_weights_as_published_and_as_transformers_builds(hub: str) -> None:
    model = on_meta(hub)
    layers = getattr(model.config, "num_hidden_layers", None)

    assert shape(hub).parameters == sum(one.numel() for one in model.parameters()) == PUBLISHED[hub]
    assert shape(hub).layers == layers
    assert shape(hub).vocabulary == model.get_output_embeddings().weight.shape[0]


@pytest.mark.parametrize("hub", CARDS)
def test_the_cards_of_qwen_print_these_sizes(hub: str) -> None:
    sizes, (whole, without) = shape(hub), CARDS[hub]
    embedding = sizes.vocabulary * sizes.hidden * (1 if CONFIGS[hub]["tie_word_embeddings"] else 2)

    assert sizes.parameters / 1e9 == pytest.approx(whole, abs=0.006)
    assert (sizes.parameters - embedding) / 1e9 == pytest.approx(without, abs=0.006)


@pytest.mark.parametrize("base", [base for base in bases() if "lora" in recipe(base)])
def test_an_adapter_is_rank_times_the_widths_of_every_linear_layer(base: str) -> None:
    spec, hub = LoraSpec.model_validate(recipe(base)["lora"]), recipe(base)["student"]["hub"]
    config = CONFIGS[hub]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    groups = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    # q, k, v, o, gate, up and down, each with an A [rank, in] and a B [out, rank].
    widths = [2 * hidden, hidden + groups, hidden + groups, 2 * hidden, *[hidden + inner] * 3]
    model = on_meta(hub)
    linear = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    ]

    assert len(linear) == len(widths) * config["num_hidden_layers"]
    assert sum(one.in_features + one.out_features for one in linear) == sum(widths) * config["num_hidden_layers"]
    assert adapter_parameters(shape(hub), spec) == spec.rank * sum(widths) * config["num_hidden_layers"]


def qwen_tokenizer() -> PreTrainedTokenizerBase:
    """Qwen2.5's ids: those of Qwen1.5 with the tokens that were added since."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(shared_data("tokenizers", "Qwen1.5-1.8B"))
    tokenizer.add_tokens(list(ADDED))
    return tokenizer


def test_the_qwen_pairs_share_their_ids_whatever_their_heads_are_padded_to() -> None:
    tokenizer = qwen_tokenizer()
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    assert vocabulary_size(tokenizer) == QWEN_IDS
    padded, scored = [], []
    for hub in ("Qwen/Qwen2.5-Math-7B-Instruct", "Qwen/Qwen2.5-Math-1.5B"):
        given = {**CONFIGS[hub], **small, "intermediate_size": 16}
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(given.pop("model_type"), **given))
        decoder = wrap(model, tokenizer)
        padded.append(model.get_output_embeddings().weight.shape[0])
        scored.append(decoder.logits(torch.zeros(1, 16)).shape[-1])

    assert padded == [152_064, 151_936]
    assert scored == [QWEN_IDS, QWEN_IDS]


@pytest.mark.parametrize(
    ("folder", "hub"), [("gpt2", "openai-community/gpt2"), ("tinyllama-1.1b-3T", "openlm-research/open_llama_3b_v2")]
)
def test_the_other_heads_have_no_padding(folder: str, hub: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data("tokenizers", folder))

    assert vocabulary_size(tokenizer) == shape(hub).vocabulary
