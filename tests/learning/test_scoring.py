from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cpd_engine.data.encode import Sample
from cpd_engine.errors import StopRequested
from cpd_engine.scoring import cross_entropies
from tests.learning.small_models import CPU, decoder, samples


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_scores_are_transformers_own_losses(tmp_path: Path, kind: str) -> None:
    model = decoder(tmp_path, kind=kind)
    given = samples(7)
    found = cross_entropies(model, given, runtime=CPU)
    for index, sample in enumerate(given):
        ids = torch.tensor(sample.input_ids, dtype=torch.int64)[None]
        labels = ids.clone()
        labels[0, : sample.prompt_length] = -100
        with torch.no_grad():
            mean = float(model.model(input_ids=ids, labels=labels).loss)
        assert found.sums[index] / found.tokens[index] == pytest.approx(mean, rel=1e-5)
    assert found.mean == pytest.approx(found.sums.sum() / found.tokens.sum())


def test_entropies_are_summed_over_the_same_tokens(tmp_path: Path) -> None:
    model, given = decoder(tmp_path), samples(5)
    found = cross_entropies(model, given, runtime=CPU, entropies=True)
    assert found.sums.tolist() == cross_entropies(model, given, runtime=CPU).sums.tolist()
    assert found.entropy_sums is not None
    for sample, total in zip(given, found.entropy_sums, strict=True):
        with torch.no_grad():
            logits_TV = model.model(torch.tensor(sample.input_ids, dtype=torch.int64)[None]).logits[0]
        entropies_T = torch.distributions.Categorical(logits=logits_TV[:, : model.vocabulary]).entropy()
        assert total == pytest.approx(float(entropies_T[sample.prompt_length - 1 : -1].sum()), rel=1e-5)


def test_a_score_does_not_depend_on_the_samples_beside_it(tmp_path: Path) -> None:
    model = decoder(tmp_path)
    given = samples(40)
    together = cross_entropies(model, given, runtime=CPU).sums
    alone = np.concatenate([cross_entropies(model, [sample], runtime=CPU).sums for sample in given])
    np.testing.assert_allclose(together, alone, rtol=2e-6)


def test_scoring_reports_progress_and_may_be_stopped(tmp_path: Path) -> None:
    long = [Sample(id=str(i), row=i, input_ids=np.full(900, 5, dtype=np.int32), prompt_length=890) for i in range(20)]
    seen: list[int] = []

    def report(done: int, total: int) -> None:
        seen.append(done)
        if done < total:
            raise StopRequested

    with pytest.raises(StopRequested):
        cross_entropies(decoder(tmp_path), long, runtime=CPU, on_progress=report)
    assert seen == [9]
