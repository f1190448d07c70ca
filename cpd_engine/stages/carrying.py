"""What the student's training carries beside its weights: its samples' ranking, its own answers, its mixing weight."""

from __future__ import annotations

from collections.abc import Callable

from cpd_engine.adaptive import AdaptiveMixing
from cpd_engine.beside import Beside
from cpd_engine.models.decoder import Decoder
from cpd_engine.policy import OnPolicy
from cpd_engine.ranking import Ranking
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.profiling import Profiled
from cpd_engine.stages.writing import Writer


def beside_of(run: Run, prepared: Prepared, profiled: Profiled, trained: Callable[[], Decoder]) -> Beside:
    """As the config asks for. `trained` gives the student as it is then."""
    mixing = run.config.mixing
    return Beside(
        ranking=_ranking(run, prepared, profiled),
        policy=_policy(run, prepared, trained),
        mixing=AdaptiveMixing(mixing.end) if mixing is not None and mixing.kind == "adaptive" else None,
    )


def _ranking(run: Run, prepared: Prepared, profiled: Profiled) -> Ranking | None:
    if run.config.refresh_every is None:
        return None
    return Ranking(
        profiled.profile,
        ce_mean=profiled.ce_mean,
        supervised=prepared.samples.supervised,
        ids=prepared.samples.id_ranks(),
        kind=run.config.difficulty or "ce_mean",
        every=run.config.refresh_every,
        emit=run.emit,
    )


def _policy(run: Run, prepared: Prepared, trained: Callable[[], Decoder]) -> OnPolicy | None:
    spec = run.config.on_policy
    if spec is None:
        return None
    return OnPolicy(
        spec,
        samples=prepared.samples,
        batch_size=run.config.optimizer.batch_size,
        end=prepared.end,
        seed=run.config.training_seed,
        ask=Writer(run, prepared, spec, trained),
    )
