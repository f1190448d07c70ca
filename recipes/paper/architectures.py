"""The decoders of the paper by hub id: what their config.json says of sizes, so that costs are told before anything is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpd_engine.shapes import Shape, shape_of

# Real ids of every Qwen2.5 tokenizer; the heads are padded to 151,936 or 152,064 rows.
QWEN_IDS = 151_665


def _gpt2(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "n_embd": hidden,
        "n_layer": layers,
        "n_head": heads,
        "n_positions": 1024,
        "vocab_size": 50_257,
        "tie_word_embeddings": True,
    }


def _qwen(hidden: int, layers: int, heads: int, groups: int, inner: int, *, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": inner,
        "vocab_size": 151_936 if tied else 152_064,
        "tie_word_embeddings": tied,
    }


def _llama(hidden: int, layers: int, inner: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": inner,
        "vocab_size": 32_000,
        "tie_word_embeddings": False,
    }


_QWEN_1_5B = _qwen(1536, 28, 12, 2, 8960, tied=True)
_QWEN_7B = _qwen(3584, 28, 28, 4, 18_944, tied=False)

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "openai-community/gpt2": _gpt2(768, 12, 12),
    "openai-community/gpt2-medium": _gpt2(1024, 24, 16),
    "openai-community/gpt2-large": _gpt2(1280, 36, 20),
    "openai-community/gpt2-xl": _gpt2(1600, 48, 25),
    "Qwen/Qwen2.5-0.5B": _qwen(896, 24, 14, 2, 4864, tied=True),
    "Qwen/Qwen2.5-1.5B": _QWEN_1_5B,
    "Qwen/Qwen2.5-Math-1.5B": _QWEN_1_5B,
    "Qwen/Qwen2.5-Math-7B-Instruct": _QWEN_7B,
    "Qwen/Qwen2.5-Coder-1.5B": _QWEN_1_5B,
    "Qwen/Qwen2.5-Coder-7B-Instruct": _QWEN_7B,
    "openlm-research/open_llama_3b_v2": _llama(3200, 26, 8640),
    "openlm-research/open_llama_7b_v2": _llama(4096, 32, 11_008),
}


def shape(hub: str) -> Shape:
    """The sizes of a model of the paper. Raises KeyError for any other."""
    found = shape_of(CONFIGS[hub])
    assert found is not None
    return found
