"""Sizes of a decoder as its config.json tells them, before anything is loaded. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpd_engine.config import LoraSpec, TinyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the cost of a decoder depends on. `layer_widths`: inputs and outputs of a layer's linear maps, added up."""

    parameters: int
    layer_parameters: int
    layer_widths: int
    hidden: int
    layers: int
    vocabulary: int


def tiny_shape(ref: TinyModel, positions: int) -> Shape:
    """The shape of a model that `models.tiny` will build, `positions` long, if the text fills its vocabulary."""
    told: dict[str, Any] = {"vocab_size": ref.vocabulary, "model_type": ref.tiny}
    if ref.tiny == "gpt2":
        told |= {"n_embd": ref.hidden, "n_layer": ref.layers, "n_positions": positions}
    else:
        told |= {"hidden_size": ref.hidden, "num_hidden_layers": ref.layers, "num_attention_heads": ref.heads}
        told |= {"intermediate_size": 16 * -(-ref.hidden * 8 // 48), "tie_word_embeddings": True}
    shape = shape_of(told)
    if shape is None:
        raise ValueError(f"a tiny {ref.tiny} has no known shape")
    return shape


def shape_of(model_config: Mapping[str, Any]) -> Shape | None:
    """The shape that a model's config.json tells (GPT-2's names or Llama's); None where it tells too little."""
    hidden = model_config.get("hidden_size", model_config.get("n_embd"))
    layers = model_config.get("num_hidden_layers", model_config.get("n_layer"))
    vocabulary = model_config.get("vocab_size")
    if not (isinstance(hidden, int) and isinstance(layers, int) and isinstance(vocabulary, int)):
        return None
    if "n_embd" in model_config:
        per_layer, widths = 12 * hidden**2 + 13 * hidden, 16 * hidden
        embedding = (vocabulary + int(model_config.get("n_positions", 0))) * hidden + 2 * hidden
    else:
        per_layer, widths = _llama_layer(model_config, hidden)
        tied = bool(model_config.get("tie_word_embeddings", False))
        embedding = vocabulary * hidden * (1 if tied else 2) + hidden
    return Shape(
        parameters=layers * per_layer + embedding,
        layer_parameters=per_layer,
        layer_widths=widths,
        hidden=hidden,
        layers=layers,
        vocabulary=vocabulary,
    )


def _llama_layer(model_config: Mapping[str, Any], hidden: int) -> tuple[int, int]:
    """Weights of a layer, and the inputs and outputs of its seven linear maps."""
    heads = int(model_config.get("num_attention_heads", 1))
    groups = int(model_config.get("num_key_value_heads") or heads)
    head = int(model_config.get("head_dim") or hidden // heads)
    inner = int(model_config.get("intermediate_size", 4 * hidden))
    attention = 2 * hidden * heads * head + 2 * hidden * groups * head
    bias = (heads + 2 * groups) * head if model_config.get("model_type") == "qwen2" else 0
    widths = 4 * hidden + 2 * (heads + groups) * head + 3 * (hidden + inner)
    return attention + bias + 3 * hidden * inner + 2 * hidden, widths


def without_layers(shape: Shape, dropped: int) -> Shape:
    """The shape that remains when `dropped` layers are taken out."""
    return Shape(
        parameters=shape.parameters - dropped * shape.layer_parameters,
        layer_parameters=shape.layer_parameters,
        layer_widths=shape.layer_widths,
        hidden=shape.hidden,
        layers=shape.layers - dropped,
        vocabulary=shape.vocabulary,
    )


def adapter_parameters(shape: Shape, lora: LoraSpec) -> int:
    """Weights of a LoRA adapter on every linear map of every layer: of each map an A [rank, in] and a B [out, rank]."""
    return lora.rank * shape.layer_widths * shape.layers
