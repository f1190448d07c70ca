"""TRL's GKDTrainer, off-policy (lmbda 0) with KL(teacher || student) (beta 0), in its own training loop.

It is given its faster settings: no gradient checkpointing, no logging, no saving, batches that are tensors already cut to length.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.experimental.gkd import GKDConfig, GKDTrainer

from benchmarks.engine.measure import Meter, weights_of
from benchmarks.engine.models import build
from benchmarks.engine.setting import BATCH_SIZE, MAX_GRAD_NORM, OPTIMIZER, Setting
from benchmarks.engine.variants.padded import IGNORED


class _Steps(TrainerCallback):
    """Starts the meter behind the warm-up step and stops it behind the last one."""

    def __init__(self, meter: Meter, last: int) -> None:
        self._meter = meter
        self._last = last

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **facts: Any) -> None:
        if state.global_step == 1:
            self._meter.start()
        elif state.global_step == self._last:
            self._meter.stop()


def train(setting: Setting, meter: Meter) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The student's weights before and after the steps."""
    teacher = build(setting.pair, "teacher", setting.seed)
    student = build(setting.pair, "student", setting.seed)
    before = weights_of(student.model)
    batches = [setting.warm_up(), *setting.batches()]
    rows = [
        {
            "input_ids": sample.input_ids.tolist(),
            "labels": [IGNORED] * sample.prompt_length + sample.input_ids[sample.prompt_length :].tolist(),
        }
        for batch in batches
        for sample in batch
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = GKDTrainer(
            model=student.model,
            teacher_model=teacher.model,
            args=_arguments(folder, steps=len(batches)),
            data_collator=_collate,
            train_dataset=Dataset.from_list(rows),
            processing_class=student.tokenizer,
            callbacks=[_Steps(meter, last=len(batches))],
        )
        trainer.train()
    return before, weights_of(student.model)


def _arguments(folder: str, *, steps: int) -> GKDConfig:
    return GKDConfig(
        output_dir=folder,
        lmbda=0.0,
        beta=0.0,
        max_steps=steps,
        per_device_train_batch_size=BATCH_SIZE,
        train_sampling_strategy="sequential",
        learning_rate=OPTIMIZER.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=OPTIMIZER.weight_decay,
        adam_beta1=OPTIMIZER.beta_1,
        adam_beta2=OPTIMIZER.beta_2,
        adam_epsilon=OPTIMIZER.eps,
        max_grad_norm=MAX_GRAD_NORM,
        optim="adamw_torch_fused",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _collate(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Right-padded ids, mask and labels [B, T]."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids_BT = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask_BT = torch.zeros_like(ids_BT)
    labels_BT = torch.full_like(ids_BT, IGNORED)
    for number, row in enumerate(rows):
        length = len(row["input_ids"])
        ids_BT[number, :length] = torch.tensor(row["input_ids"])
        mask_BT[number, :length] = 1
        labels_BT[number, :length] = torch.tensor(row["labels"])
    return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}
