"""Samples ranked anew while the student learns (paper 6.2), by the cross-entropy that training sees anyway.

Every step gives the mean CE of its samples under the student as it then is. A refresh sorts by the newest of each sample: those that
have not been visited since keep what they had, at first the profile's. So a refresh costs a sort and no pass. How many samples an epoch
takes stays as planned, and with it the number of steps and the learning rates; which ones they are changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from cpd_engine.config import Difficulty
from cpd_engine.difficulty import scores
from cpd_engine.events import Emit, EpochPlan, RankingRefreshed
from cpd_engine.profile import DifficultyProfile


class Ranking:
    """The newest CE of each sample and the order that follows, both part of the training's state.

    `ce_mean` [N]: nats per supervised token at the profile; not finite where a sample is left out. `supervised` [N]. `ids`, or
    their ranks. `every` epochs.
    """

    def __init__(
        self,
        profile: DifficultyProfile,
        *,
        ce_mean: NDArray[np.float64],
        supervised: NDArray[np.int64],
        ids: Sequence[str] | NDArray[np.int64],
        kind: Difficulty,
        every: int,
        emit: Emit,
    ) -> None:
        self._first, self._descending = profile.order, profile.descending
        self._usable = np.zeros(len(ce_mean), dtype=np.bool_)
        self._usable[profile.order] = True
        self._ce_mean = ce_mean.copy()
        self._supervised = supervised
        self._ids = ids
        self._kind = kind
        self._every = every
        self._emit = emit
        self._order = profile.order
        self._epoch = 1

    def note(self, indices: NDArray[np.int64], ce_mean: Sequence[float]) -> None:
        """What a step has seen of its samples."""
        self._ce_mean[indices] = ce_mean

    def order_for(self, epoch: EpochPlan) -> NDArray[np.int64]:
        """Sample indices in the curriculum's order for this epoch (from 1), sorted anew where that is due and not done."""
        if (epoch.epoch - 1) % self._every == 0 and epoch.epoch > self._epoch:
            self._epoch = epoch.epoch
            self._refresh(epoch)
        return self._order

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed training needs, by name."""
        return {
            "ce_mean": torch.from_numpy(self._ce_mean),
            "order": torch.from_numpy(self._order),
            "epoch": torch.tensor([self._epoch]),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self._ce_mean = state["ce_mean"].numpy().copy()
        self._order = state["order"].numpy().copy()
        self._epoch = int(state["epoch"])

    def _refresh(self, epoch: EpochPlan) -> None:
        found = scores(self._kind, student_ce_sum=self._ce_mean * self._supervised, supervised_tokens=self._supervised)
        found[~self._usable] = np.nan
        ranked = DifficultyProfile.from_scores(found, self._ids)
        self._order = (ranked.hardest_first() if self._descending else ranked).order
        rank = np.empty(len(found), dtype=np.int64)
        rank[self._order] = np.arange(len(self._order))
        subset = epoch.subset_size
        shared = np.isin(self._order[:subset], self._first[:subset]).sum()
        self._emit(
            RankingRefreshed(
                epoch=epoch.epoch,
                spearman=float(spearmanr(np.arange(len(self._first)), rank[self._first]).statistic)
                if len(self._first) > 1
                else 1.0,
                overlap=float(shared) / subset,
                subset_size=subset,
            )
        )
