"""A byte-level tokenizer as GGUF has it: tokens, merges, and the name under which llama.cpp knows how it splits text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as QWEN2_SPLIT

from cpd_engine.errors import UnsupportedModel

# llama.cpp splits text by rules of its own, which it chooses by a name. A wrong name gives other tokens and no error, so a tokenizer is
# taken only where its own rules are these, word for word.
_LLAMA3_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """By id: `texts` and their `kinds`, as many as the model has rows of embeddings. `splitter`: the rules by name."""

    texts: list[str]
    kinds: list[int]
    merges: list[str]
    splitter: str
    adds_bos: bool


def tokens_of(tokenizer: PreTrainedTokenizerBase, *, size: int) -> Tokens:
    """Raises UnsupportedModel for a tokenizer that llama.cpp would read otherwise than transformers does."""
    told: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    model = told["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise _unsupported(f"its tokenizer is of the kind {model['type']}, not a byte-level BPE")
    by_id = {index: text for text, index in tokenizer.get_vocab().items()}
    added = {token["id"]: token["special"] for token in told["added_tokens"]}
    texts, kinds = [], []
    for index in range(size):
        text = by_id.get(index)
        texts.append(f"[PAD{index}]" if text is None else text)
        special = added.get(index)
        kinds.append(
            _UNUSED if text is None else _NORMAL if special is None else _CONTROL if special else _USER_DEFINED
        )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    ids = tokenizer("a")["input_ids"]
    adds_bos = tokenizer.bos_token_id is not None and bool(ids) and ids[0] == tokenizer.bos_token_id
    return Tokens(texts=texts, kinds=kinds, merges=merges, splitter=_splitter(told), adds_bos=adds_bos)


def _splitter(told: dict[str, Any]) -> str:
    steps = told["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    found = [_step(step) for step in steps]
    normalizer = (told["normalizer"] or {}).get("type")
    match normalizer, found:
        case "NFC", [("split", pattern), ("bytes", False)] if pattern == QWEN2_SPLIT:
            return "qwen2"
        case None, [("split", pattern), ("bytes", False)] if pattern == _LLAMA3_SPLIT:
            return "llama-bpe"
        case None, [("digits", True), ("bytes", True)]:
            return "smollm"
        case None, [("bytes", True)]:
            return "gpt-2"
        case _:
            raise _unsupported("its tokenizer splits text by rules that llama.cpp has no name for here")


def _step(step: dict[str, Any]) -> tuple[str, Any]:
    match step.get("type"):
        case "Split" if step.get("behavior") == "Isolated" and not step.get("invert"):
            return "split", step["pattern"].get("Regex")
        case "ByteLevel" if not step.get("add_prefix_space"):
            return "bytes", step.get("use_regex", True)
        case "Digits":
            return "digits", step.get("individual_digits")
        case other:
            return "other", other


def _unsupported(why: str) -> UnsupportedModel:
    return UnsupportedModel(f"GGUF: {why}; convert the folder with llama.cpp's convert_hf_to_gguf.py instead")
