"""Whole runs in this process: what they refuse, what they leave behind, what they say."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from pyarrow import feather
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpd_engine import checkpoint, pipeline
from cpd_engine.config import RunConfig
from cpd_engine.errors import (
    DatasetInvalid,
    EngineError,
    NothingToLearn,
    RunDirectoryMismatch,
    StopRequested,
    StorageFull,
)
from cpd_engine.events import Event, Finished, Measured, to_dict
from cpd_engine.inputs import Inputs
from cpd_engine.presets import PRESETS
from tests.learning.engine_runs import recipe

QUICK: dict[str, Any] = {
    "teacher_sft": None,
    "epochs": 2,
    "evaluation": {
        "validation_metric": "ce",
        "validation_rows": 4,
        "test_rows": 3,
        "generation": {"max_new_tokens": 4},
    },
}


def _config(folder: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate_json(recipe(folder, **QUICK | changes).read_text())


def _run(config: RunConfig, out: Path, inputs: Inputs | None = None) -> list[dict[str, Any]]:
    events: list[Event] = []
    pipeline.run(config, inputs=inputs or Inputs(), out=out, emit=events.append, should_stop=lambda: False)
    return [json.loads(json.dumps(to_dict(event))) for event in events]


def _of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["kind"] == kind]


def test_phases_come_in_order_and_every_sealed_directory_is_announced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    events = _run(_config(tmp_path, teacher_sft={"epochs": 1}), out)
    phases = [(event["phase"], event["index"], event["total"]) for event in _of(events, "phase_started")]
    names = ("prepare", "teacher_sft", "profile", "train", "evaluate", "export")
    assert phases == [(name, index, 6) for index, name in enumerate(names)]
    standing = {event["path"]: event for event in _of(events, "checkpointed") if (out / event["path"]).exists()}
    assert standing.keys() == {path.parent.relative_to(out).as_posix() for path in out.rglob("manifest.json")}
    for path, event in standing.items():
        checkpoint.verify(out / path)
        assert [file["path"] for file in event["files"]] == [f.path for f in checkpoint.sealed_files(out / path)]
    assert events[-1]["kind"] == "finished"


def test_a_finished_run_run_again_trains_nothing_and_tells_the_same(tmp_path: Path) -> None:
    config = _config(tmp_path)
    first, again = (_run(config, tmp_path / "out") for _ in range(2))
    assert all(event["reused"] for event in _of(again, "phase_finished"))
    assert not _of(again, "measured")
    for kind in ("data_ready", "planned", "profile_ready", "reported", "exported"):
        assert _of(again, kind) == _of(first, kind)


def test_the_student_loads_with_plain_transformers_and_says_what_was_scored(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(_config(tmp_path, template="chat"), out)
    model = AutoModelForCausalLM.from_pretrained(out / "export").eval()
    tokenizer = AutoTokenizer.from_pretrained(out / "export")
    for line in checkpoint.read_jsonl(out / "report" / "samples.jsonl"):
        turns = [{"role": "user", "content": line["prompt"].replace("\n", "\n\n", 1)}]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            said = model.generate(**ids)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(said, skip_special_tokens=True) == line["answers"]["student"]["text"]


def test_the_adapter_and_the_merged_weights_are_the_same_model(tmp_path: Path) -> None:
    out = tmp_path / "out"
    events = _run(_config(tmp_path, lora={"rank": 4, "alpha": 8.0}), out)
    assert _of(events, "exported")[0]["formats"] == ["merged", "adapter"]
    merged = AutoModelForCausalLM.from_pretrained(out / "export").eval()
    base = AutoModelForCausalLM.from_pretrained(out / "base-student")
    adapted = PeftModel.from_pretrained(base, str(out / "export" / "adapter")).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(adapted(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    assert str(tmp_path) not in (out / "export" / "adapter" / "adapter_config.json").read_text()


def test_a_student_cut_from_the_tuned_teacher_starts_from_its_layers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    changes = {"teacher_sft": {"epochs": 1}, "student": {"from": "teacher", "drop_layers": 1}}
    events = _run(_config(tmp_path, **changes), out)
    kept = checkpoint.read_tensors(out / "base-student" / "model.safetensors")
    whole = checkpoint.read_tensors(out / "teacher" / "model.safetensors")
    assert torch.equal(kept["model.embed_tokens.weight"], whole["model.embed_tokens.weight"])
    (dropped,) = checkpoint.read_json(out / "base-student" / "influence.json")["dropped"]
    layer = "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(kept[layer.format(0)], whole[layer.format(1 - dropped)])
    scores = _of(events, "reported")[0]["scores"]
    assert scores["student"]["ce"] < scores["untouched"]["ce"]


def test_the_twins_take_as_many_steps_at_the_same_rates_and_are_judged_at_the_same_steps(tmp_path: Path) -> None:
    evaluation = QUICK["evaluation"] | {"baselines": ["sft", "kld"]}
    events = _run(_config(tmp_path, evaluation=evaluation), tmp_path / "out")
    rates = {
        trained: [e["values"]["learning_rate"] for e in _of(events, "measured") if e["trained"] == trained]
        for trained in ("student", "sft", "kld")
    }
    assert rates["student"] == rates["sft"] == rates["kld"]
    judged = {
        subject: [e["step"] for e in _of(events, "evaluated") if e["subject"] == subject and e["split"] == "validation"]
        for subject in ("student", "sft", "kld")
    }
    assert judged["student"] == judged["sft"] == judged["kld"]
    assert {e["values"]["kd"] for e in _of(events, "measured") if e["trained"] == "sft"} == {0.0}
    distilled = [e["values"] for e in _of(events, "measured") if e["trained"] == "kld"]
    assert all(values["kd"] > 0.0 for values in distilled)
    assert {(values["alpha"], values["temperature"], values["mixing"]) for values in distilled} == {(0.3, 1.0, 0.0)}
    (reported,) = _of(events, "reported")
    assert reported["steps"] == {"untouched": 0, **{trained: len(rates[trained]) for trained in rates}}
    assert {pair["subject"] for pair in reported["comparisons"]} == {"teacher", "untouched", "sft", "kld"}


def test_the_kld_twin_of_a_plain_student_asks_the_teacher_of_its_own(tmp_path: Path) -> None:
    evaluation = QUICK["evaluation"] | {"baselines": ["kld"]}
    events = _run(_config(tmp_path, preset="sft", evaluation=evaluation), tmp_path / "out")
    kd = {
        t: {e["values"]["kd"] > 0.0 for e in _of(events, "measured") if e["trained"] == t} for t in ("student", "kld")
    }
    assert kd == {"student": {False}, "kld": {True}}
    assert _of(events, "teacher_states_planned")[0]["passes_without"] > 0.0


def test_a_students_seed_changes_its_batches_and_neither_the_rows_nor_the_teacher(tmp_path: Path) -> None:
    changes = {"teacher_sft": {"epochs": 1}}
    runs = {seed: _run(_config(tmp_path, **changes, student_seed=seed), tmp_path / str(seed)) for seed in (None, 0, 1)}
    losses = {seed: [e["values"]["loss"] for e in _of(events, "measured")] for seed, events in runs.items()}
    steps = {seed: [e["trained"] for e in _of(events, "measured")] for seed, events in runs.items()}
    tuned = steps[0].count("teacher")
    assert losses[None] == losses[0]
    assert losses[0][:tuned] == losses[1][:tuned]
    assert losses[0][tuned:] != losses[1][tuned:]
    assert _of(runs[0], "data_ready") == _of(runs[1], "data_ready")
    assert (tmp_path / "0/prepared/test.jsonl").read_bytes() == (tmp_path / "1/prepared/test.jsonl").read_bytes()


def test_the_paper_preset_warns_of_its_dead_epoch_and_distils_nothing_in_it(tmp_path: Path) -> None:
    events = _run(_config(tmp_path, preset="paper"), tmp_path / "out")
    assert "dead_epoch" in [event["code"] for event in _of(events, "warned")]
    kd = {event["epoch"]: event["values"]["kd"] for event in _of(events, "measured")}
    assert kd[1] > 0.0
    assert kd[2] == 0.0


@pytest.mark.parametrize("difficulty", ["teacher_ce", "dds"])
def test_difficulty_by_the_teacher_is_kept_beside_the_students(difficulty: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    events = _run(_config(tmp_path, difficulty=difficulty, curriculum="calibrated_affine"), out)
    kept = feather.read_table(out / "profile" / "scores.arrow")
    score, by_teacher, by_student, tokens = (
        kept[name].to_numpy() for name in ("score", "teacher_ce_sum", "student_ce_sum", "supervised_tokens")
    )
    assert score == pytest.approx(
        by_teacher / tokens if difficulty == "teacher_ce" else by_student / by_teacher, rel=1e-15
    )
    assert by_student.tolist() != by_teacher.tolist()
    rows = [json.loads(line)["id"] for line in (out / "prepared" / "train.jsonl").read_text().splitlines()]
    assert kept["id"].to_pylist() == rows
    assert kept.schema.metadata == {b"difficulty": difficulty.encode()}
    (ready,) = _of(events, "profile_ready")
    mean = {row: (float(s), float(t)) for row, s, t in zip(rows, by_student / tokens, by_teacher / tokens, strict=True)}
    assert {one["id"]: (one["student_ce"], one["teacher_ce"]) for one in ready["suspicious"]}.items() <= mean.items()
    # Places in the profile's order, its two ends among them.
    ranked = sorted(score.tolist())
    assert [one["score"] for one in ready["along"]] == [ranked[one["k"] - 1] for one in ready["along"]]
    assert {1, len(ranked)} <= {one["k"] for one in ready["along"]}


def test_difficulty_by_entropy_is_kept_and_ranks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(_config(tmp_path, difficulty="entropy"), out)
    kept = feather.read_table(out / "profile" / "scores.arrow")
    score, entropy, tokens = (kept[name].to_numpy() for name in ("score", "student_entropy_sum", "supervised_tokens"))
    assert score == pytest.approx(entropy / tokens, rel=1e-15)
    # Fresh weights are not far from uniform over their 400 ids.
    assert np.all((0.8 * math.log(400) < score) & (score < math.log(400)))


def test_every_validation_tells_the_answers_to_the_same_few_rows(tmp_path: Path) -> None:
    asked = QUICK["evaluation"] | {"validation_metric": "rouge_l"}
    told = {
        name: [
            event["answers"] for event in _validations(_run(_config(tmp_path, evaluation=evaluation), tmp_path / name))
        ]
        for name, evaluation in {
            "answers": asked | {"validation_rows": 6},
            "ce": QUICK["evaluation"],
            "ce-pinned": QUICK["evaluation"] | {"validation_rows": 6, "pinned": 2},
            "none": asked | {"pinned": 0},
        }.items()
    }
    rows = [[one["row"] for one in answers] for answers in told["answers"]]
    assert [len(found) for found in rows] == [4, 4]
    assert rows[0] == rows[1]
    assert all(one["prompt"] and one["reference"] for one in told["answers"][0])
    assert told["ce"] == told["none"] == [[], []]
    # The same model, data and seed: whoever asks gets the same answers.
    assert told["ce-pinned"] == [answers[:2] for answers in told["answers"]]


def _validations(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in _of(events, "evaluated") if (e["subject"], e["split"]) == ("student", "validation")]


def test_without_validation_rows_the_last_weights_are_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    events = _run(_config(tmp_path, evaluation=QUICK["evaluation"] | {"validation_rows": 0}), out)
    assert not [event for event in _of(events, "evaluated") if event["split"] == "validation"]
    assert not (out / "train" / "best").exists()
    assert checkpoint.read_json(out / "trained" / "student" / "training.json")["chosen"] is None


def test_bf16_runs_where_it_is_asked_for(tmp_path: Path) -> None:
    events = _run(_config(tmp_path, precision="bf16", epochs=1), tmp_path / "out")
    assert events[0]["precision"] == "bf16"
    exported = checkpoint.read_tensors(tmp_path / "out" / "export" / "model.safetensors")
    assert {tensor.dtype for tensor in exported.values()} == {torch.float32}


def _fails(config: RunConfig, out: Path, error: type[EngineError], match: str) -> None:
    events: list[Event] = []
    with pytest.raises(error, match=match):
        pipeline.run(config, inputs=Inputs(), out=out, emit=events.append, should_stop=lambda: False)
    told = to_dict(events[-1])
    assert (told["kind"], told["code"]) == ("failed", error.code)


def test_a_run_without_any_gradient_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    config = _config(tmp_path, alpha=0.0, mixing={"kind": "fixed", "value": 1.0})
    _fails(config, tmp_path / "out", NothingToLearn, "no step of this run has a gradient")
    assert not (tmp_path / "out" / "profile").exists()


def test_rows_too_long_for_the_models_leave_nothing_to_train_on(tmp_path: Path) -> None:
    _fails(_config(tmp_path, max_length=8), tmp_path / "out", DatasetInvalid, "no train row is left; dropped by reason")


def test_a_directory_of_another_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(_config(tmp_path), out)
    before = sorted(out.rglob("*"))
    _fails(_config(tmp_path, seed=1), out, RunDirectoryMismatch, "other settings")
    assert sorted(out.rglob("*")) == before


def test_a_run_that_an_older_version_began_without_a_setting_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(_config(tmp_path), out)
    written = checkpoint.read_json(out / "run.json")
    del written["config"]["evaluation"]["pinned"]
    checkpoint.write_json_atomically(out / "run.json", written | {"sha256": "of older settings"})

    assert _run(_config(tmp_path), out)[-1]["kind"] == "finished"
    changed = _config(tmp_path, evaluation=QUICK["evaluation"] | {"pinned": 1})
    _fails(changed, out, RunDirectoryMismatch, "other settings")


def test_a_stop_before_the_first_phase_is_obeyed(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(StopRequested):
        pipeline.run(
            _config(tmp_path), inputs=Inputs(), out=tmp_path / "o", emit=events.append, should_stop=lambda: True
        )
    assert to_dict(events[-1]) == {"kind": "stopped", "phase": "prepare"}


def test_a_disk_that_fills_up_is_named_and_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    config, out = _config(tmp_path), tmp_path / "out"

    def fill(event: Event) -> None:
        if isinstance(event, Measured):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFull, match="free space"):
        pipeline.run(config, inputs=Inputs(), out=out, emit=fill, should_stop=lambda: False)
    assert _run(config, out)[-1]["kind"] == Finished(duration_s=0.0).kind


def test_bad_rows_up_to_the_limit_are_counted_and_named(tmp_path: Path) -> None:
    rows = [json.dumps({"instruction": f"add {i} and {j}", "output": str(i + j)}) for i in range(10) for j in range(10)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, '{"instruction": "?"}', "nonsense"]) + "\n")
    dataset = {"train": "rows.jsonl", "max_bad_row_fraction": 0.05}
    events = _run(_config(tmp_path, dataset=dataset), tmp_path / "out", Inputs(base=tmp_path))
    ready = _of(events, "data_ready")[0]
    assert sum(ready["dropped"].values()) == 2
    assert sum(ready["rows"].values()) == 100
    assert "rows_dropped" in [event["code"] for event in _of(events, "warned")]
    strict = _config(tmp_path, dataset=dataset | {"max_bad_row_fraction": 0.01})
    with pytest.raises(DatasetInvalid, match="line 101"):
        _run(strict, tmp_path / "strict", Inputs(base=tmp_path))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_trains_a_student_to_the_end(preset: str, tmp_path: Path) -> None:
    events = _run(_config(tmp_path, preset=preset, subset_repeat=1), tmp_path / "out")
    steps = [event["values"] for event in _of(events, "measured") if event["trained"] == "student"]
    assert all(math.isfinite(step["loss"]) and step["kd"] >= 0.0 for step in steps)
    assert (steps[0]["kd"] > 0.0) == (preset != "sft")
    assert steps[-1]["ce"] < steps[0]["ce"]
    assert events[-1]["kind"] == "finished"


def test_the_constants_of_a_recipe_reach_the_loss(tmp_path: Path) -> None:
    first = {}
    for beta in (0.1, 0.5):
        config = _config(tmp_path, preset="skl", constants={"beta": beta})
        events = _run(config, tmp_path / f"{beta}")
        first[beta] = _of(events, "measured")[0]["values"]
    assert first[0.1]["ce"] == first[0.5]["ce"]
    # A target that is less the teacher's own is farther from it: KL(p, βp + (1−β)q) falls as β rises.
    assert first[0.1]["kd"] > 1.5 * first[0.5]["kd"] > 0.0
