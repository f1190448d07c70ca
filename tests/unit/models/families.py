"""Tiny models of many decoder families with random weights, and a tokenizer for all of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from cpd_engine.models.decoder import Decoder, wrap
from cpd_engine.models.tiny import train_tokenizer

LAYERS = 3
GATED: dict[str, Any] = {
    "num_hidden_layers": LAYERS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": LAYERS, "n_embd": 32, "n_head": 4, "n_positions": 128, "bos_token_id": 1, "eos_token_id": 1},
    "llama": GATED,
    "mistral": GATED | {"sliding_window": 8},
    "qwen2": GATED | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "qwen3": GATED | {"head_dim": 8},
    "phi3": GATED,
    "gemma2": GATED | {"head_dim": 8, "final_logit_softcapping": 0.5, "sliding_window": 8},
    "granite": GATED | {"logits_scaling": 8.0, "embedding_multiplier": 2.0},
    "cohere": GATED | {"logit_scale": 0.0625},
    "gpt_neox": {key: value for key, value in GATED.items() if key != "num_key_value_heads"},
    "opt": {
        "num_hidden_layers": LAYERS,
        "hidden_size": 32,
        "word_embed_proj_dim": 16,
        "ffn_dim": 48,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
    },
    "phi": GATED,  # its head has a bias
}


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    """300 ids, trained on next to nothing."""
    return train_tokenizer(["the quick brown fox jumps over the lazy dog while seven wizards mix potions"] * 2, 300)


def model(family: str, *, seed: int = 0, padding: int = 12) -> PreTrainedModel:
    """A model whose vocabulary is padded beyond the tokenizer's by `padding` ids, and whose logits are far from flat."""
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer()) + padding, **FAMILIES[family])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in made.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        if (bias := getattr(made.get_output_embeddings(), "bias", None)) is not None:
            torch.nn.init.normal_(bias)
    made.eval()
    return made


def decoder(family: str, *, seed: int = 0) -> Decoder:
    """The same, wrapped."""
    return wrap(model(family, seed=seed), tokenizer())
