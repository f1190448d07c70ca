from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cpd_engine.config import DatasetSpec, ExaminationConfig, HubModel, TinyModel
from cpd_engine.data.source import split_rows
from cpd_engine.errors import DatasetInvalid, HubUnavailable, ModelNotFound, UnsafeModelFormat
from cpd_engine.events import Event
from cpd_engine.examination import examine
from cpd_engine.inputs import Inputs
from cpd_engine.models.hub import DATA_FILES, MODEL_FILES, fetch
from cpd_engine.models.licences import stated_licence
from cpd_engine.models.load import load, resolve
from cpd_engine.models.tiny import build_tiny
from tests.integration.hub_stub import COMMIT, HubStub, serving


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    tiny, pickled, data = root / "tiny", root / "pickled", root / "data"
    build_tiny(TinyModel(tiny="llama", layers=1, hidden=16, heads=2, vocabulary=300), ["one two three"] * 9, tiny)
    (tiny / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (tiny / "pytorch_model.bin").write_bytes(b"pickle")
    (tiny / "modeling_evil.py").write_text("raise SystemExit")
    coded = root / "coded"
    shutil.copytree(tiny, coded)
    config = json.loads((coded / "config.json").read_text())
    auto_map = {"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    (coded / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
    (coded / "modeling_evil.py").write_text(f"import pathlib\npathlib.Path({str(root / 'canary')!r}).touch()\n")
    pickled.mkdir()
    (pickled / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    data.mkdir()
    for name, count in {"train": 40, "test": 5}.items():
        rows = [json.dumps({"prompt": f"{name} {i}?", "completion": f"{i}!"}) for i in range(count)]
        (data / f"{name}-00000-of-00001.jsonl").write_text("\n".join(rows))
    (data / "script.py").write_text("raise SystemExit")
    sums = root / "sums"
    for folder, split, count in (("main", "train", 9), ("main", "test", 4), ("socratic", "test", 6)):
        path = sums / folder / f"{split}-00000-of-00001.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"question": f"{i}?", "answer": f"#### {i}"}) + "\n" for i in range(count)))
    return {
        "models/org/tiny": tiny,
        "models/org/pickled": pickled,
        "models/org/coded": coded,
        "datasets/org/rows": data,
        "datasets/org/sums": sums,
    }


@pytest.fixture
def hub(repos: dict[str, Path]) -> Iterator[HubStub]:
    with serving(HubStub(repos)) as stub:
        yield stub


@pytest.fixture
def inputs(hub: HubStub, tmp_path: Path) -> Inputs:
    return Inputs(hub_cache=tmp_path / "cache", hub_endpoint=hub.endpoint)


def test_a_branch_is_pinned_to_its_commit_and_the_model_loads(hub: HubStub, inputs: Inputs) -> None:
    found = resolve(HubModel(hub="org/tiny"), inputs=inputs)
    assert (found.commit, found.pinned) == (COMMIT, True)
    assert load(found.path, dtype=torch.float32).model.config.model_type == "llama"


def test_only_files_on_the_allow_list_are_fetched(hub: HubStub, inputs: Inputs) -> None:
    path = resolve(HubModel(hub="org/tiny", revision=COMMIT), inputs=inputs).path
    assert {file.suffix for file in path.iterdir()} <= {".json", ".safetensors", ".jinja", ".md"}
    assert not any("evil" in request or ".bin" in request for request in hub.requests)


def test_a_commit_in_the_cache_needs_no_hub(hub: HubStub, inputs: Inputs) -> None:
    ref = HubModel(hub="org/tiny", revision=COMMIT)
    first = resolve(ref, inputs=inputs)
    hub.requests.clear()
    assert resolve(ref, inputs=inputs) == first
    assert hub.requests == []


def test_a_snapshot_without_the_card_of_its_repository_is_whole(hub: HubStub, inputs: Inputs) -> None:
    ref = HubModel(hub="org/tiny", revision=COMMIT)
    path = resolve(ref, inputs=inputs).path
    assert stated_licence(path) == "apache-2.0"
    (path / "README.md").unlink()
    hub.requests.clear()
    assert stated_licence(resolve(ref, inputs=inputs).path) is None
    assert hub.requests == []


def test_a_repository_with_pickles_only_is_refused_before_any_download(hub: HubStub, inputs: Inputs) -> None:
    with pytest.raises(UnsafeModelFormat, match=r"org/pickled@main: no model\.safetensors"):
        resolve(HubModel(hub="org/pickled"), inputs=inputs)
    assert not any("resolve" in request for request in hub.requests)


def test_a_repository_that_names_code_of_its_own_is_refused_and_the_code_not_even_fetched(
    hub: HubStub, inputs: Inputs, repos: dict[str, Path]
) -> None:
    with pytest.raises(UnsafeModelFormat, match="auto_map"):
        resolve(HubModel(hub="org/coded"), inputs=inputs)
    assert not any(".py" in request for request in hub.requests)
    assert not (repos["models/org/coded"].parent / "canary").exists()


def test_a_file_whose_name_climbs_is_not_fetched(hub: HubStub, inputs: Inputs, tmp_path: Path) -> None:
    hub.announced += ["../../evil.jsonl", "/evil.jsonl", "a/../../evil.jsonl", "a//evil.jsonl", "..\\evil.jsonl"]
    snapshot = fetch("org/rows", "main", kind="dataset", patterns=DATA_FILES, inputs=inputs)
    assert {file.suffix for file in snapshot.path.iterdir()} == {".jsonl"}
    assert not any("evil" in request for request in hub.requests)
    assert list(tmp_path.rglob("*evil*")) == []


@pytest.mark.parametrize("ref", [HubModel(hub="org/absent"), HubModel(hub="org/tiny", revision="absent")])
def test_a_missing_repository_or_revision_is_named(ref: HubModel, inputs: Inputs) -> None:
    with pytest.raises(ModelNotFound, match="no such repository or revision"):
        resolve(ref, inputs=inputs)


def test_a_hub_that_stumbles_is_asked_again(hub: HubStub, inputs: Inputs) -> None:
    hub.failures = 2
    waits: list[float] = []
    found = fetch("org/tiny", "main", kind="model", patterns=MODEL_FILES, inputs=inputs, sleep=waits.append)
    assert found.commit == COMMIT
    assert waits == [0.5, 1.0]


def test_a_hub_that_stays_down_is_given_up_after_four_tries(hub: HubStub, inputs: Inputs) -> None:
    hub.failures = 10**6
    waits: list[float] = []
    with pytest.raises(HubUnavailable, match="4 tries"):
        fetch("org/tiny", "main", kind="model", patterns=MODEL_FILES, inputs=inputs, sleep=waits.append)
    assert waits == [0.5, 1.0, 2.0]
    assert len(hub.requests) == 4


def test_a_hub_that_nobody_runs_is_unavailable(tmp_path: Path) -> None:
    nobody = Inputs(hub_cache=tmp_path, hub_endpoint="http://127.0.0.1:9")
    waits: list[float] = []
    with pytest.raises(HubUnavailable):
        fetch("org/tiny", "main", kind="model", patterns=MODEL_FILES, inputs=nobody, sleep=waits.append)


def test_rows_of_a_hub_data_set_are_split_by_file_name(hub: HubStub, inputs: Inputs, tmp_path: Path) -> None:
    splits = split_rows(DatasetSpec(hub="org/rows", validation_fraction=0.1), inputs=inputs, seed=0, into=tmp_path)
    assert splits.rows == {"train": 36, "validation": 4, "test": 5}
    assert splits.revision == COMMIT
    assert not any("script" in request for request in hub.requests)


def test_a_hub_data_set_is_fetched_as_data_only(hub: HubStub, inputs: Inputs) -> None:
    snapshot = fetch("org/rows", "main", kind="dataset", patterns=DATA_FILES, inputs=inputs)
    assert {file.suffix for file in snapshot.path.iterdir()} == {".jsonl"}


def test_a_suite_from_the_hub_takes_the_test_rows_of_its_folder_and_fetches_nothing_else(
    hub: HubStub, inputs: Inputs, repos: dict[str, Path], tmp_path: Path
) -> None:
    events: list[Event] = []
    suite = {"task": "gsm8k", "hub": "org/sums", "subset": "main", "shots": 0, "max_new_tokens": 2}
    config = ExaminationConfig.model_validate({"suites": [suite], "threads": 1})
    out = tmp_path / "out"
    model = repos["models/org/tiny"]
    examine(config, model=model, inputs=inputs, out=out, emit=events.append, should_stop=lambda: False)
    told = json.loads((out / "questions" / "suites.json").read_text())["gsm8k"]
    assert (told["rows"], told["commit"]) == (4, COMMIT)
    assert [event.code for event in events if event.kind == "warned"] == ["revision_pinned"]
    assert not any("socratic/test" in request for request in hub.requests)
    empty = ExaminationConfig.model_validate({"suites": [suite | {"subset": "none"}], "threads": 1})
    with pytest.raises(DatasetInvalid, match="org/sums holds no rows"):
        examine(empty, model=model, inputs=inputs, out=tmp_path / "e", emit=events.append, should_stop=lambda: False)
