"""The suites' rows: found, checked and sealed before anything is spent, and put into each model's words when it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from cpd_engine import checkpoint
from cpd_engine.config import SuiteSpec
from cpd_engine.data.encode import Ids, encode_texts, render_prompt
from cpd_engine.data.files import files_by_split
from cpd_engine.data.records import Row, from_json, to_json
from cpd_engine.data.source import locate
from cpd_engine.errors import DatasetInvalid
from cpd_engine.evaluation.programs import Programs, require_code_execution
from cpd_engine.evaluation.prompts import Example, asked, plain_prompt
from cpd_engine.evaluation.questions import own_examples, read_examples, read_programs, read_questions, to_lines
from cpd_engine.evaluation.settings import Settings, family, seeds, settings_of
from cpd_engine.events import Warned
from cpd_engine.models.hub import DATA_FILES, fetch
from cpd_engine.stages.context import Run
from cpd_engine.stages.origins import given

UNIT = "questions"
_ORDER = ("test", "validation", "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite ready to be asked. `seeds` are those of its answers, None alone where they are greedy."""

    title: str
    task: str
    seeds: tuple[int | None, ...]
    settings: Settings
    rows: Sequence[Row]
    examples: Sequence[Example]
    programs: Programs | None
    sha256: str

    def prompts(self, tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
        """Token ids of the prompts, in the rows' order."""
        template, examples = self.settings.template, self.examples
        if self.settings.chat:
            texts = [render_prompt(tokenizer, asked(row, template, examples), "chat") for row in self.rows]
            return encode_texts(tokenizer, texts, "chat")
        return encode_texts(tokenizer, [plain_prompt(row, template, examples) for row in self.rows], "paper")

    def expected_steps(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Decoding steps of likely answers, end token included: of texts as many as the references take, of maths as the worked
        examples do on average; where there is nothing to go by, as many as there may be.
        """
        most = self.settings.generation.max_new_tokens
        if family(self.task) == "text":
            return [
                min(most, len(ids) + 1) for ids in encode_texts(tokenizer, [row.response for row in self.rows], "paper")
            ]
        shown = encode_texts(tokenizer, [solution for _, solution in self.examples], "paper")
        likely = round(sum(map(len, shown)) / len(shown)) + 1 if shown else most
        return [min(most, likely)] * len(self.rows)


def seal_questions(run: Run[Any], specs: Sequence[SuiteSpec]) -> None:
    """Read every suite's rows into `questions/`. Raises every refusal that they can earn."""
    if not specs:
        return
    for spec in specs:
        if family(spec.task) == "code":
            require_code_execution(spec.task, allowed=run.inputs.code_execution)
    with run.once(UNIT) as mine, run.fleet.apart():
        if mine:
            with run.sealing(UNIT, UNIT) as draft:
                told = {spec.title: _read(run, spec, draft / spec.title) for spec in specs}
                checkpoint.write_json(draft / "suites.json", told)


def read_suites(run: Run[Any], specs: Sequence[SuiteSpec], *, chat: bool, batch_size: int) -> tuple[Suite, ...]:
    """The sealed suites. Raises ConfigInvalid where programs are to be run and no sandbox opens."""
    return tuple(_suite(run, spec, settings_of(spec, chat=chat, batch_size=batch_size)) for spec in specs)


def _read(run: Run[Any], spec: SuiteSpec, into: Path) -> dict[str, Any]:
    """Write the rows and the examples of one suite; what there is to tell of them."""
    into.mkdir()
    paths, commit = _files(run, spec)
    if family(spec.task) == "code":
        found = read_programs(paths, spec)
        Programs(spec.task, found)
        text = to_lines(found)
        count = len(found)
    else:
        rows = read_questions(paths, spec)
        text = "".join(to_json(row) + "\n" for row in rows)
        count = len(rows)
    (into / "rows.jsonl").write_text(text, "utf-8")
    examples = _examples(run, spec)
    checkpoint.write_json(into / "examples.json", examples)
    run.break_off_if_asked()
    files = {field: given(locate(name, run.inputs)) for field, name in spec.files.items()}
    return {"task": spec.task, "rows": count, "commit": commit, "files": files, "sha256": _hash(into)}


def _files(run: Run[Any], spec: SuiteSpec) -> tuple[list[Path], str | None]:
    """The files of rows, and the commit of those from a hub: of its splits the one that is for testing."""
    field = f"suite {spec.title}"
    if spec.hub is None:
        assert spec.data is not None
        return [locate(spec.data, run.inputs, field=f"{field}, data")], None
    folder = f"{spec.subset}/" if spec.subset else ""
    patterns = [folder + pattern for pattern in DATA_FILES]
    found = fetch(spec.hub, spec.revision, kind="dataset", patterns=patterns, inputs=run.inputs)
    if found.pinned:
        told = f"{field}: revision {spec.revision!r} of {spec.hub} is a moving name; pinned to commit {found.commit}"
        run.emit(Warned(code="revision_pinned", message=told))
    splits = files_by_split(found.path / (spec.subset or ""))
    paths = next((splits[name] for name in _ORDER if name in splits), None)
    if paths is None:
        raise DatasetInvalid(f"{field}: {spec.hub} holds no rows as .jsonl, .json or .parquet there")
    return paths, found.commit


def _examples(run: Run[Any], spec: SuiteSpec) -> list[Example]:
    shots = settings_of(spec, chat=False, batch_size=1).shots
    if spec.examples is None:
        return own_examples(spec.task, shots) if shots else []
    return read_examples([locate(spec.examples, run.inputs, field=f"suite {spec.title}, examples")], shots)


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("rows.jsonl", "examples.json"):
        digest.update(checkpoint.hash_file(folder, name).sha256.encode())
    return digest.hexdigest()


def _suite(run: Run[Any], spec: SuiteSpec, settings: Settings) -> Suite:
    folder = run.out / UNIT / spec.title
    told = checkpoint.read_json(run.out / UNIT / "suites.json")[spec.title]
    programs = None
    if family(spec.task) == "code":
        programs = Programs(spec.task, checkpoint.read_jsonl(folder / "rows.jsonl"))
        rows = programs.rows(chat=settings.chat)
    else:
        rows = [from_json(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]
    return Suite(
        title=spec.title,
        task=spec.task,
        seeds=seeds(spec) or (None,),
        settings=settings,
        rows=rows,
        examples=[(problem, solution) for problem, solution in checkpoint.read_json(folder / "examples.json")],
        programs=programs,
        sha256=settings.sha256(told["sha256"]),
    )
