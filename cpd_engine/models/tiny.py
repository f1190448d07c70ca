"""Small decoders made on the spot: fresh seeded weights, and a tokenizer trained on the job's own data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from cpd_engine.config import TinyModel
from cpd_engine.errors import ConfigInvalid
from cpd_engine.models.decoder import Decoder, vocabulary_size, wrap
from cpd_engine.models.load import load_tokenizer, save

PAD, END = "<|pad|>", "<|endoftext|>"
ROLES = ("system", "user", "assistant")
# Two tokens around a prompt, where the paper's template takes forty: most of what a tiny model would read.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tiny(
    ref: TinyModel,
    texts: Iterable[str],
    out: Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_positions: int = 1024,
) -> Decoder:
    """Make the model, save it into `out` and return it (float32, CPU).

    `tokenizer`: that of the other model of the pair, so that their vocabularies agree; without one it is trained on `texts`.
    """
    tokenizer = tokenizer if tokenizer is not None else train_tokenizer(texts, ref.vocabulary)
    config = tiny_config(ref, tokenizer, max_positions=max_positions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ref.seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    decoder = wrap(model.eval(), tokenizer)
    save(decoder, out)
    if _rules(load_tokenizer(out)) != _rules(tokenizer):
        raise ConfigInvalid(
            f"tiny: transformers would load the {type(tokenizer).__name__} of the other model as another one beside a {ref.tiny} model; "
            "choose another tiny type"
        )
    return decoder


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """Byte-level BPE of at most `vocabulary` ids: every text has tokens and comes back in Unicode's NFC form; digits stand alone.

    Ids 0 and 1 are <|pad|> and <|endoftext|> (EOS), then come the roles of its chat template. No BOS.

    Texts are normalised and split as Qwen2's tokenizer does it, because
    transformers loads that class for every model of that type, whatever its files say; the other types load it just as it is.
    """
    backend = Tokenizer(BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _rules(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """All that decides which ids a text gets."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = ("normalizer", "pre_tokenizer", "post_processor")
    return {"vocabulary": tokenizer.get_vocab(), "end": tokenizer.eos_token_id} | {
        part: backend[part] for part in parts
    }


def tiny_config(ref: TinyModel, tokenizer: PreTrainedTokenizerBase, *, max_positions: int) -> PretrainedConfig:
    """The architecture with tied embeddings and no dropout; MLPs are 4 (GPT-2) or 8/3 (gated) times as wide as the rest."""
    common: dict[str, Any] = {
        "vocab_size": vocabulary_size(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": True,
        # The usual 0.02 suits widths of a thousand; at 96 it wastes the first hundreds of steps.
        "initializer_range": ref.hidden**-0.5,
    }
    if ref.tiny == "gpt2":
        return GPT2Config(
            n_layer=ref.layers,
            n_embd=ref.hidden,
            n_head=ref.heads,
            n_positions=max_positions,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **common,
        )
    gated: dict[str, Any] = {
        "num_hidden_layers": ref.layers,
        "hidden_size": ref.hidden,
        "intermediate_size": 16 * -(-ref.hidden * 8 // 48),
        "num_attention_heads": ref.heads,
        "num_key_value_heads": ref.heads,
        "max_position_embeddings": max_positions,
    }
    return LlamaConfig(**gated, **common) if ref.tiny == "llama" else Qwen2Config(**gated, **common)
