"""A file's rows as the models will see them: their lengths by a tokenizer, what is too long, and the first as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from cpd_engine.data.encode import Ids, Template, encode
from cpd_engine.data.lengths import Rendered, Tally, TokenCheck, TokenReport
from cpd_engine.data.readers import lines_of
from cpd_engine.data.records import Row, read_rows
from cpd_engine.errors import DatasetInvalid, VocabularyMismatch
from cpd_engine.models.load import check_vocabularies, load_tokenizer

Model = Literal["teacher", "student"]
_CHUNK_ROWS = 1024
_NO_LIMIT = 1 << 40


def check_tokens(
    files: Sequence[Path], *, teacher: Path | None, student: Path | None, template: Template, max_length: int, show: int
) -> TokenCheck:
    """Each file by the tokenizers of the two folders, as far as they are given.

    A tokenizer.json stands for its folder. Raises UnsupportedModel for a folder without a tokenizer, ConfigInvalid where its chat
    template does not work, DatasetInvalid for a file that cannot be read.
    """
    folders: dict[Model, Path | None] = {"teacher": teacher, "student": student}
    given = {name: path for name, path in folders.items() if path is not None}
    loaded = {name: load_tokenizer(path.parent if path.is_file() else path) for name, path in given.items()}
    reports = [
        measure(
            _usable(file),
            tokenizer,
            file=file.name,
            model=name,
            template=template,
            max_length=max_length,
            show=show,
        )
        for file in files
        for name, tokenizer in loaded.items()
    ]
    return TokenCheck(reports=tuple(reports), vocabularies=_mismatch(loaded.get("teacher"), loaded.get("student")))


def measure(
    rows: Iterable[Row],
    tokenizer: PreTrainedTokenizerBase,
    *,
    file: str,
    model: Model,
    template: Template,
    max_length: int,
    show: int,
) -> TokenReport:
    """Encode the rows as training would, without a limit, and count; the first `show` are kept as text."""
    prompt, response, sample = Tally(), Tally(), Tally()
    shown: list[Rendered] = []
    count = overlong_prompt = overlong = 0
    for chunk in _chunks(rows):
        count += len(chunk)
        encoded = encode(chunk, tokenizer, template=template, max_length=_NO_LIMIT)
        for one in encoded.samples:
            length = len(one.input_ids)
            prompt.add(one.prompt_length)
            response.add(one.supervised)
            sample.add(length)
            # A prompt must leave room for a token and the end token; see `encode`.
            overlong_prompt += one.prompt_length + 2 > max_length
            overlong += length > max_length >= one.prompt_length + 2
            if len(shown) < show:
                shown.append(_rendered(tokenizer, one.id, one.input_ids, one.prompt_length))
    return TokenReport(
        file=file,
        model=model,
        template=template,
        max_length=max_length,
        rows=count,
        prompt=prompt.lengths(),
        response=response.lengths(),
        sample=sample.lengths(),
        overlong_prompt=overlong_prompt,
        overlong=overlong,
        shown=tuple(shown),
    )


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while chunk := list(islice(left, _CHUNK_ROWS)):
        yield chunk


def _usable(file: Path) -> Iterator[Row]:
    if not file.is_file():
        raise DatasetInvalid(f"{file}: there is no such file")
    return (row for row in read_rows(lines_of([file])) if isinstance(row, Row))


def _rendered(tokenizer: PreTrainedTokenizerBase, identifier: str, ids: Ids, prompt_length: int) -> Rendered:
    asked, answer = (
        str(tokenizer.decode(part.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        for part in (ids[:prompt_length], ids[prompt_length:])
    )
    return Rendered(
        id=identifier,
        prompt=asked,
        response=answer,
        prompt_tokens=prompt_length,
        response_tokens=len(ids) - prompt_length,
    )


def _mismatch(teacher: PreTrainedTokenizerBase | None, student: PreTrainedTokenizerBase | None) -> str | None:
    if teacher is None or student is None:
        return None
    try:
        check_vocabularies(teacher, student)
    except VocabularyMismatch as error:
        return str(error)
    return None
