"""A model as its training leaves it: sealed whole, and with LoRA its adapter beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cpd_engine import checkpoint
from cpd_engine.config import HubModel, StudentRef
from cpd_engine.keeper import Judgement
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import save
from cpd_engine.models.lora import merge_lora
from cpd_engine.stages.context import Run


def seal_trained(run: Run, decoder: Decoder, into: str, *, steps: int, chosen: Judgement | None) -> None:
    """The trained model, merged, and how it came about, as `into`."""
    with run.sealing(into, into.replace("/", "-"), metrics=chosen.metrics if chosen else None) as draft:
        if decoder.adapter is not None:
            _save_adapter(decoder, run.config.student, draft / "adapter")
        save(merge_lora(decoder), draft)
        content = {"steps": steps, "chosen": asdict(chosen) if chosen else None}
        checkpoint.write_json(draft / "training.json", content)


def _save_adapter(decoder: Decoder, student: StudentRef, out: Path) -> None:
    """The adapter alone, as peft reads it. Its base is named as the recipe names it, not by a path of this machine."""
    for config in decoder.adapter.peft_config.values():
        config.base_model_name_or_path = student.hub if isinstance(student, HubModel) else "base-student"
        # A set, whose order would differ from process to process.
        config.target_modules = sorted(config.target_modules)
    # Embeddings are never adapted here; peft's default asks the hub whether they have grown.
    decoder.adapter.save_pretrained(out, save_embedding_layers=False)
    # peft's model card is a form to fill in.
    (out / "README.md").unlink(missing_ok=True)
