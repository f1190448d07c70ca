"""The loop of the papers' code, written plainly: padded batches, full logits of both models, the loss by autograd.

It shares the weights and the rows with the engine and no code of its training, so it also says whether the engine computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.engine.measure import Meter, weights_of
from benchmarks.engine.models import build
from benchmarks.engine.setting import CPD, MAX_GRAD_NORM, OPTIMIZER, Setting
from cpd_engine.config import OptimizerSpec
from cpd_engine.data.encode import Sample
from cpd_engine.objective import Objective

IGNORED = -100


def train(setting: Setting, meter: Meter) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The student's weights before and after the steps."""
    teacher = build(setting.pair, "teacher", setting.seed).model.eval()
    student = build(setting.pair, "student", setting.seed).model.train()
    before = weights_of(student)
    optimizer = adamw(student, OPTIMIZER)
    step(student, teacher, optimizer, setting.warm_up(), CPD)
    meter.start()
    for samples in setting.batches():
        step(student, teacher, optimizer, samples, CPD)
    meter.stop()
    return before, weights_of(student)


def step(
    student: nn.Module,
    teacher: nn.Module,
    optimizer: torch.optim.AdamW,
    samples: Sequence[Sample],
    objective: Objective,
) -> float:
    """One optimizer step; gives its loss, nats per supervised token."""
    ids_BT, mask_BT, labels_BT = padded(samples)
    student_BTV = student(input_ids=ids_BT, attention_mask=mask_BT).logits[:, :-1]
    with torch.no_grad():
        teacher_BTV = teacher(input_ids=ids_BT, attention_mask=mask_BT).logits[:, :-1]
    loss = cpd_loss(student_BTV, teacher_BTV, labels_BT[:, 1:], objective)
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def padded(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and labels [B, T] (int64); labels of prompts and padding are ignored."""
    longest = max(len(sample.input_ids) for sample in samples)
    ids_BT = torch.zeros(len(samples), longest, dtype=torch.int64)
    mask_BT = torch.zeros_like(ids_BT)
    labels_BT = torch.full_like(ids_BT, IGNORED)
    for number, sample in enumerate(samples):
        tokens = torch.from_numpy(sample.input_ids).long()
        ids_BT[number, : len(tokens)] = tokens
        mask_BT[number, : len(tokens)] = 1
        labels_BT[number, sample.prompt_length : len(tokens)] = tokens[sample.prompt_length :]
    return ids_BT, mask_BT, labels_BT


def cpd_loss(student_BTV: Tensor, teacher_BTV: Tensor, labels_BT: Tensor, objective: Objective) -> Tensor:
    """alpha·CE + (1 − alpha)·tau²·KL(m || q), m = t·q + (1 − t)·p, 0 < t < 1, mean over the labels that count."""
    t, tau = objective.mixing, objective.temperature
    counts_BT = labels_BT != IGNORED
    ce = nn.functional.cross_entropy(
        student_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    log_q_BTV = torch.log_softmax(student_BTV / tau, dim=-1)
    log_p_BTV = torch.log_softmax(teacher_BTV / tau, dim=-1)
    log_m_BTV = torch.logaddexp(log_q_BTV + math.log(t), log_p_BTV + math.log(1.0 - t))
    kd_BT = (log_m_BTV.exp() * (log_m_BTV - log_q_BTV)).sum(dim=-1)
    kd = (kd_BT * counts_BT).sum()
    return (objective.alpha * ce + (1.0 - objective.alpha) * tau**2 * kd) / counts_BT.sum()


def adamw(student: nn.Module, spec: OptimizerSpec) -> torch.optim.AdamW:
    """Decay for matrices only, as the engine and transformers' Trainer have it."""
    matrices = [p for p in student.parameters() if p.dim() >= 2]
    vectors = [p for p in student.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=spec.learning_rate,
        betas=(spec.beta_1, spec.beta_2),
        eps=spec.eps,
        fused=True,
    )
