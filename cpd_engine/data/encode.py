"""From rows to token ids: prompt templates, and samples whose prompt and response never share a token.

Templates:

- `paper`: Figure 5 as printed, one template for all rows; a row without an input has an empty "### Input:" section.
- `chat`: the tokenizer's own chat template over the user turn (instruction and input) or the row's conversation, with the
  generation prompt. It alone decides about special tokens, BOS too, as it does in every server that will load the model.

Prompt and response are tokenised apart, so that no merge crosses the cut, and the response ends in exactly one end token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from cpd_engine.data.records import Row
from cpd_engine.data.templates import rendered
from cpd_engine.errors import UnsupportedModel

Template = Literal["paper", "chat"]
Overlong = Literal["drop", "truncate_response"]
Ids = NDArray[np.int32]

PAPER_TEMPLATE = """\
Below is an instruction that describes a task.
Write a response that appropriately completes the request.

### Instruction:
{instruction}

### Input:
{input}

### Response:
"""
# Rows a call to the tokenizer: enough to keep it busy, few enough to bound memory.
_CHUNK = 1024
# Something ordinary that tokenizers turn into tokens of its own; see `_continuations`.
_ANCHORS = ("\n", "\t", ":")
_MARK = "Xyz123"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An encoded row. `input_ids` = prompt, response, one end token; positions ≥ `prompt_length` are supervised.

    `generated`: the response is what the student said itself, and ends in the end token only where it did.
    """

    id: str
    row: int
    input_ids: Ids
    prompt_length: int
    generated: bool = False

    @property
    def supervised(self) -> int:
        """Number of supervised tokens: the response's, the end token among them."""
        return len(self.input_ids) - self.prompt_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Samples in the rows' order; `dropped` counts rows left out by reason; `truncated` responses that were cut short."""

    samples: tuple[Sample, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    truncated: int = 0


def render_prompt(tokenizer: PreTrainedTokenizerBase, row: Row, template: Template) -> str:
    """The prompt as text. ConfigInvalid where the tokenizer has no chat template or refuses the conversation."""
    if template == "paper":
        return PAPER_TEMPLATE.format(instruction=row.instruction, input=row.input)
    text = f"{row.instruction}\n\n{row.input}" if row.input else row.instruction
    turns = [{"role": turn.role, "content": turn.content} for turn in row.turns] or [{"role": "user", "content": text}]
    return rendered(tokenizer, turns, add_generation_prompt=True)


def encode_prompts(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], template: Template) -> list[Ids]:
    """The prompts' token ids, exactly as `encode` puts them before a response. With `paper`, BOS once if the tokenizer adds one."""
    return encode_texts(tokenizer, [render_prompt(tokenizer, row, template) for row in rows], template)


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], template: Template) -> list[Ids]:
    """Token ids of prompts that are rendered already: by the tokenizer's chat template, or (`paper`) by any plain one."""
    if template == "chat":
        return [_array(ids) for ids in _tokenise(tokenizer, texts, split_special=False)]
    start = _start_ids(tokenizer)
    return [_array(start + ids) for ids in _tokenise(tokenizer, texts, split_special=True)]


def end_id(tokenizer: PreTrainedTokenizerBase, template: Template) -> int:
    """The token that ends a response: with `chat` the special token that closes an assistant turn, otherwise EOS.

    Raises UnsupportedModel where the tokenizer has no such token.
    """
    if template == "chat":
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
        closing = rendered(tokenizer, turns, add_generation_prompt=False).rpartition(_MARK)[2]
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        after = next(iter(_tokenise(tokenizer, [closing], split_special=False)))
        if (found := next((token for token in after if token in special), None)) is not None:
            return found
    if tokenizer.eos_token_id is None:
        raise UnsupportedModel("tokenizer: it has no end-of-sequence token; set eos_token in its tokenizer_config.json")
    return int(tokenizer.eos_token_id)


def encode(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    *,
    template: Template,
    max_length: int,
    overlong: Overlong = "drop",
    first: int = 0,
) -> Encoded:
    """Samples of at most `max_length` tokens, prompt and end token included. `first`: the number of the first row in its split.

    A longer row is dropped (`overlong`), or its response is cut short and still closed by the end token. A row whose prompt leaves
    no room for one token of the response and the end token is always dropped (`overlong_prompt`): prompts are never cut.
    """
    prompts = encode_prompts(tokenizer, rows, template)
    responses = _continuations(tokenizer, [row.response for row in rows])
    end = end_id(tokenizer, template)
    samples: list[Sample] = []
    dropped: Counter[str] = Counter()
    truncated = 0
    for number, (row, prompt, response) in enumerate(zip(rows, prompts, responses, strict=True), start=first):
        room = max_length - len(prompt) - 1
        if len(prompt) == 0:  # nothing would predict the first token
            dropped["empty_prompt"] += 1
            continue
        if room < 1:
            dropped["overlong_prompt"] += 1
            continue
        if len(response) > room:
            if overlong == "drop":
                dropped["overlong"] += 1
                continue
            truncated += 1
        ids = np.concatenate([prompt, _array([*response[:room], end])])
        samples.append(Sample(id=row.id, row=number, input_ids=ids, prompt_length=len(prompt)))
    return Encoded(samples=tuple(samples), dropped=dict(sorted(dropped.items())), truncated=truncated)


def _array(ids: Sequence[int]) -> Ids:
    return np.asarray(ids, dtype=np.int32)


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, split_special: bool) -> list[list[int]]:
    """Token ids without BOS and EOS. `split_special`: text that spells a special token stays text, so no row can forge an end."""
    tokens: list[list[int]] = []
    for start in range(0, len(texts), _CHUNK):
        found = tokenizer(
            list(texts[start : start + _CHUNK]),
            add_special_tokens=False,
            split_special_tokens=split_special,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        tokens += found["input_ids"]
    return tokens


def _start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before a text by itself: BOS for the Llama family, nothing for GPT-2 and Qwen."""
    bare = tokenizer(_MARK, add_special_tokens=False)["input_ids"]
    full = tokenizer(_MARK)["input_ids"]
    at = next(at for at in range(len(full)) if full[at : at + len(bare)] == bare)
    return list(full[:at])


def _continuations(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that go on after something else.

    SentencePiece tokenizers put a space before whatever they are given, which nobody wrote: after "### Response:\\n" the text
    "Paris" would become "▁Paris", a token that no generation in place would begin with. So there each text is tokenised behind an
    anchor whose tokens are then taken off.
    """
    plain = _tokenise(tokenizer, texts, split_special=True)
    if _anchored(tokenizer, ["x"], _ANCHORS[0]) == _tokenise(tokenizer, ["x"], split_special=True):
        return plain
    results: list[list[int] | None] = [None] * len(texts)
    for anchor in _ANCHORS:
        open_ = [number for number, ids in enumerate(results) if ids is None]
        for number, ids in zip(open_, _anchored(tokenizer, [texts[n] for n in open_], anchor), strict=True):
            results[number] = ids
    return [ids if ids is not None else bare for ids, bare in zip(results, plain, strict=True)]


def _anchored(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], anchor: str) -> list[list[int] | None]:
    """Ids of each text behind the anchor; None where a merge swallowed the anchor."""
    (before,) = _tokenise(tokenizer, [anchor], split_special=True)
    behind = _tokenise(tokenizer, [anchor + text for text in texts], split_special=True)
    return [ids[len(before) :] if ids[: len(before)] == before else None for ids in behind]
