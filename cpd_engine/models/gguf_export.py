"""A model directory as one GGUF file, for llama.cpp and what is built on it: the Llama and Qwen2 families.

The writer is the package `gguf`, kept by llama.cpp's own authors; what is ours is which tensor and which setting goes where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from cpd_engine.errors import ConfigInvalid, UnsupportedModel
from cpd_engine.models.files import check_directory, load_config
from cpd_engine.models.gguf_tokens import Tokens, tokens_of
from cpd_engine.models.load import load_tokenizer

Precision = Literal["f32", "f16", "q8_0"]
FAMILIES = ("llama", "qwen2")
# What of a config makes another model of it than these two families are in llama.cpp, and the value at which it does not.
_PLAIN: dict[str, Any] = {"mlp_bias": False, "use_sliding_window": False, "hidden_act": "silu", "pretraining_tp": 1}


@dataclass(frozen=True, slots=True)
class _Weight:
    """A tensor under its name in GGUF, in the order and the number format of the file once `read` is called."""

    name: str
    shape: tuple[int, ...]
    kind: Any
    size_bytes: int
    read: Callable[[], NDArray[Any]]


def export(folder: Path, out: Path, *, precision: Precision) -> None:
    """Write the file, whole or not at all. Vectors stay float32; of `q8_0` a matrix whose rows are no multiple of 32 is float16.

    Raises ModelNotFound, UnsafeModelFormat, UnsupportedModel for what is not of these families or would be read otherwise, ConfigInvalid
    without the package `gguf` or where `out` exists.
    """
    try:
        import gguf
    except ImportError as error:
        raise ConfigInvalid("writing GGUF needs the package gguf: pip install 'cpd[gguf]'") from error
    if out.exists():
        raise ConfigInvalid(f"{out} exists; name a file that does not")
    check_directory(folder)
    config, tokenizer = load_config(folder), load_tokenizer(folder)
    _check(folder.name, config)
    weights = list(_weights(gguf, folder, config, precision))
    draft = out.with_name(f".{out.name}.draft")
    try:
        writer = gguf.GGUFWriter(draft, config.model_type)
        _settings(gguf, writer, config, folder.name, precision)
        _vocabulary(writer, tokenizer, tokens_of(tokenizer, size=config.vocab_size))
        for weight in weights:
            writer.add_tensor_info(
                weight.name, weight.shape, np.dtype(np.float32), weight.size_bytes, raw_dtype=weight.kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for weight in weights:
            writer.write_tensor_data(weight.read())
        writer.close()
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)


def _check(name: str, config: PretrainedConfig) -> None:
    if config.model_type not in FAMILIES:
        raise UnsupportedModel(
            f"{name}: GGUF is written of {' and '.join(FAMILIES)} models, and this is {config.model_type}; "
            "convert the folder with llama.cpp's convert_hf_to_gguf.py instead"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    plain = _PLAIN | ({"attention_bias": False} if config.model_type == "llama" else {})
    other = [field for field, value in plain.items() if getattr(config, field, value) != value]
    if rope.get("rope_type", "default") != "default":
        other.append("rope_parameters")
    if other:
        raise UnsupportedModel(
            f"{name}: GGUF: {', '.join(other)} is not as these families have it; use llama.cpp's own converter"
        )


def _settings(gguf: Any, writer: Any, config: PretrainedConfig, name: str, precision: Precision) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = getattr(config, "rope_parameters", None) or {}
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    writer.add_rope_dimension_count(head)
    if head * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head)
        writer.add_value_length(head)
    writer.add_vocab_size(config.vocab_size)
    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[kinds[precision]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _vocabulary(writer: Any, tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokens.splitter)
    writer.add_token_list(tokens.texts)
    writer.add_token_types(tokens.kinds)
    writer.add_token_merges(tokens.merges)
    named = {
        writer.add_bos_token_id: tokenizer.bos_token_id,
        writer.add_eos_token_id: tokenizer.eos_token_id,
        writer.add_pad_token_id: tokenizer.pad_token_id,
    }
    for tell, index in named.items():
        if index is not None:
            tell(index)
    writer.add_add_bos_token(tokens.adds_bos)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _weights(gguf: Any, folder: Path, config: PretrainedConfig, precision: Precision) -> Iterator[_Weight]:
    """Every tensor of the files of weights; each is read when it is written, so that memory holds one at a time."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 - no mapping
        for name, shape in shapes.items():
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            found = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if found is None:
                raise UnsupportedModel(f"{folder.name}: GGUF has no place for its tensor {name}")
            kind = _kind(gguf, shape, precision)
            size_bytes = int(np.prod(gguf.quant_shape_to_byte_shape(shape, kind)))
            yield _Weight(found, shape, kind, size_bytes, _reader(gguf, file, name, config, kind))


def _kind(gguf: Any, shape: tuple[int, ...], precision: Precision) -> Any:
    kinds = gguf.GGMLQuantizationType
    if len(shape) < 2 or precision == "f32":
        return kinds.F32
    return kinds.Q8_0 if precision == "q8_0" and shape[-1] % 32 == 0 else kinds.F16


def _reader(gguf: Any, file: Path, name: str, config: PretrainedConfig, kind: Any) -> Callable[[], NDArray[Any]]:
    def read() -> NDArray[Any]:
        with safe_open(file, framework="pt") as tensors:
            values = tensors.get_tensor(name).float().numpy()
        if config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = _interleaved(
                values, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            )
        stored: NDArray[Any] = gguf.quants.quantize(values, kind)
        return stored

    return read


def _interleaved(weight_OI: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a head's two halves taken in turn: llama.cpp rotates pairs of neighbours where transformers rotates halves."""
    rows, width = weight_OI.shape
    return weight_OI.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
