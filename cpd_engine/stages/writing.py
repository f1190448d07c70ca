"""The student under training answers training prompts, to learn from its own text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpd_engine import checkpoint
from cpd_engine.config import GenerationSpec, PolicySpec
from cpd_engine.data.encode import Sample
from cpd_engine.events import StudentAnswered
from cpd_engine.fleet import Dealt, dealt_back
from cpd_engine.generate import Answer, generate, row_seed
from cpd_engine.models.decoder import Decoder
from cpd_engine.policy import Question
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared

SAMPLES = "samples.jsonl"
# Answers of each epoch that are kept as text, for people.
_SHOWN = 16


class Writer:
    """Has the student answer, each process of a fleet its share, and says how it went; `trained` gives it as it is then."""

    def __init__(self, run: Run, prepared: Prepared, spec: PolicySpec, trained: Callable[[], Decoder]) -> None:
        self._run = run
        self._prepared = prepared
        self._trained = trained
        self._per_epoch = spec.refresh == "epoch"
        self._settings = settings_of(spec)

    def __call__(self, question: Question, /) -> Sequence[Answer]:
        """One answer a sample, in their order. Raises StopRequested."""
        samples = [self._prepared.samples[int(index)] for index in question.indices]
        found = self._generated(samples, question)
        self._run.emit(
            StudentAnswered(
                epoch=question.epoch,
                step=question.step,
                answers=len(found),
                mean_tokens=sum(len(one.tokens) for one in found) / len(found),
                ended=sum(one.finish_reason == "stop" for one in found) / len(found),
                empty=sum(not one.tokens for one in found) / len(found),
            )
        )
        if question.first and self._run.fleet.leads:
            self._seal_texts(samples[:_SHOWN], found, question.epoch)
        return found

    def _generated(self, samples: Sequence[Sample], question: Question) -> list[Answer]:
        run, fleet, total = self._run, self._run.fleet, len(samples)
        report = run.progress("train", f"student answers, epoch {question.epoch}")
        decoder, mine = self._trained(), Dealt(samples, fleet)

        def tell(done: int, _: int) -> None:
            if self._per_epoch:
                report(min(done * fleet.world, total), total)

        with fleet.apart(), run.runtime.autocast():
            own = generate(
                decoder,
                [sample.input_ids[: sample.prompt_length] for sample in mine],
                settings=self._settings,
                end_ids=[self._prepared.end],
                seeds=[row_seed(question.seed, sample.id) for sample in mine],
                rooms=[self._prepared.max_length - sample.prompt_length for sample in mine],
                on_progress=tell,
                should_stop=run.should_stop,
            )
        return dealt_back(fleet.gathered(own))

    def _seal_texts(self, samples: Sequence[Sample], answers: Sequence[Answer], epoch: int) -> None:
        """The first answers of an epoch beside what the data say."""
        lines = []
        for sample, answer in zip(samples, answers, strict=False):
            row = self._prepared.rows[sample.row]
            lines.append(
                {
                    "id": sample.id,
                    "prompt": f"{row.instruction}\n{row.input}".strip(),
                    "response": row.response,
                    "answer": answer.text,
                    "tokens": len(answer.tokens),
                    "finish_reason": answer.finish_reason,
                }
            )
        name = f"epoch-{epoch:04d}"
        with self._run.sealing(f"answers/{name}", f"answers-{name}") as draft:
            checkpoint.write_jsonl(draft / SAMPLES, lines)


def settings_of(spec: PolicySpec) -> GenerationSpec:
    """How the student is asked."""
    return GenerationSpec(
        temperature=spec.temperature,
        top_p=spec.top_p,
        max_new_tokens=spec.max_new_tokens,
        batch_size=spec.batch_size,
    )
