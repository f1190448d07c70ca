"""Pairs of teacher and student with seeded random weights: their cost is that of trained ones of the same shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, GPT2Config, PretrainedConfig, PreTrainedTokenizerFast, Qwen2Config

from cpd_engine.models.decoder import Decoder, wrap
from cpd_engine.repro import derived_seed

_HEAD_WIDTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Layers and hidden width; attention heads are 64 wide."""

    layers: int
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Teacher and student of one family over `vocabulary` ids; samples are cut at `max_length` tokens."""

    name: str
    family: Literal["gpt2", "qwen2"]
    vocabulary: int
    teacher: Shape
    student: Shape
    max_length: int


# Samples of the wide vocabulary are cut shorter, so that the paddings and full logits of the peers fit into 16 GB.
_PAIRS = (
    Pair(
        name="gpt2",
        family="gpt2",
        vocabulary=50_257,
        teacher=Shape(layers=6, hidden=384),
        student=Shape(layers=3, hidden=256),
        max_length=512,
    ),
    Pair(
        name="qwen2",
        family="qwen2",
        vocabulary=151_936,
        teacher=Shape(layers=6, hidden=384),
        student=Shape(layers=3, hidden=256),
        max_length=256,
    ),
    Pair(
        name="gpt2-large-teacher",
        family="gpt2",
        vocabulary=50_257,
        teacher=Shape(layers=12, hidden=768),
        student=Shape(layers=4, hidden=256),
        max_length=512,
    ),
    Pair(
        name="tiny",
        family="gpt2",
        vocabulary=16_384,
        teacher=Shape(layers=4, hidden=256),
        student=Shape(layers=2, hidden=128),
        max_length=256,
    ),
)
PAIRS: dict[str, Pair] = {pair.name: pair for pair in _PAIRS}


def build(pair: Pair, role: Literal["teacher", "student"], seed: int) -> Decoder:
    """The decoder with its seeded weights: tied embeddings, no dropout, float32. Draws from torch's global generator."""
    torch.manual_seed(derived_seed(seed, "benchmark", role))
    config = _architecture(pair, pair.teacher if role == "teacher" else pair.student)
    return wrap(AutoModelForCausalLM.from_config(config), _tokenizer(pair.vocabulary))


def mlp_width(family: Literal["gpt2", "qwen2"], hidden: int) -> int:
    """4 times the hidden width, or with a gate 8/3 of it, rounded up to a multiple of 16."""
    return 4 * hidden if family == "gpt2" else 16 * -(-hidden * 8 // 48)


def _architecture(pair: Pair, shape: Shape) -> PretrainedConfig:
    heads = shape.hidden // _HEAD_WIDTH
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    # As sharp as trained logits, where 0.02 would leave every distribution flat.
    spread = shape.hidden**-0.5
    if pair.family == "gpt2":
        return GPT2Config(
            vocab_size=pair.vocabulary,
            n_layer=shape.layers,
            n_embd=shape.hidden,
            n_head=heads,
            n_positions=pair.max_length,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=spread,
            tie_word_embeddings=True,
            **ends,
        )
    return Qwen2Config(
        vocab_size=pair.vocabulary,
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        intermediate_size=mlp_width("qwen2", shape.hidden),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=pair.max_length,
        initializer_range=spread,
        tie_word_embeddings=True,
        **ends,
    )


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One made-up word an id: nothing is tokenised here, but decoders and trainers ask for a tokenizer."""
    words = {f"w{index}": index for index in range(vocabulary)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")), eos_token="w0", pad_token="w0"
    )
