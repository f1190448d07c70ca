"""Fetching from a hub: a name is first pinned to a commit, then only files on an allow-list are downloaded."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, TypeVar

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from cpd_engine.errors import HubUnavailable, ModelNotFound, UnsafeModelFormat
from cpd_engine.inputs import Inputs

Kind = Literal["model", "dataset"]
Result = TypeVar("Result")

# Weights as safetensors only; no pickles, no code.
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
DATA_FILES = ("*.jsonl", "*.json", "*.parquet")
# What a repository says of itself, its licence above all. Fetched where it is there; a snapshot without it is whole all the same.
CARD = "README.md"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_RETRIES = 4
_FIRST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Files of one commit on this machine. `pinned`: the reference was a branch or tag and `commit` is what it meant just now."""

    path: Path
    commit: str
    pinned: bool


def fetch(
    repo: str,
    revision: str,
    *,
    kind: Kind,
    patterns: Sequence[str],
    inputs: Inputs,
    sleep: Callable[[float], None] = time.sleep,
) -> Snapshot:
    """The files of a repository that match the patterns, at one commit. A commit that is already in the cache needs no hub.

    5xx answers, 429 and time-outs are retried with growing waits, at most four tries a step.

    Raises:
        ModelNotFound: no such repository or revision, or no right to read it.
        UnsafeModelFormat: a model repository without safetensors weights.
        HubUnavailable: the hub still did not answer.
    """
    disable_progress_bars()
    pinned = _COMMIT.fullmatch(revision) is None
    if not pinned and (cached := _cached(repo, revision, kind, patterns, inputs)) is not None:
        return Snapshot(path=cached, commit=revision, pinned=False)
    api = HfApi(endpoint=inputs.hub_endpoint)
    what = f"{repo}@{revision}"
    info = _patiently(lambda: api.repo_info(repo, repo_type=kind, revision=revision, timeout=10.0), what, sleep)
    names = [sibling.rfilename for sibling in getattr(info, "siblings", None) or ()]
    # Stars match slashes too, and what a hub calls a file becomes a path here.
    matching = [name for name in names if any(fnmatch(name, pattern) for pattern in (*patterns, CARD))]
    wanted = [name for name in matching if _is_plain(name)]
    if kind == "model" and not any(name.endswith(".safetensors") for name in wanted):
        raise UnsafeModelFormat(
            f"{what}: no model.safetensors; pickled weights are never loaded. Convert it to safetensors."
        )
    if info.sha is None:
        raise ModelNotFound(f"{what}: the hub names no commit for it")
    commit = info.sha
    path = _patiently(lambda: _download(repo, commit, kind, wanted, inputs), what, sleep)
    return Snapshot(path=path, commit=commit, pinned=pinned)


def _is_plain(name: str) -> bool:
    return "\\" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def _download(repo: str, commit: str, kind: Kind, wanted: Sequence[str], inputs: Inputs) -> Path:
    path = snapshot_download(
        repo,
        repo_type=kind,
        revision=commit,
        allow_patterns=list(wanted),
        cache_dir=inputs.hub_cache,
        endpoint=inputs.hub_endpoint,
        max_workers=4,
    )
    return Path(path)


def _cached(repo: str, commit: str, kind: Kind, patterns: Sequence[str], inputs: Inputs) -> Path | None:
    """The snapshot in the cache if all of it that matches is there; the hub client knows from the commit's listing."""
    try:
        path = snapshot_download(
            repo,
            repo_type=kind,
            revision=commit,
            allow_patterns=list(patterns),
            cache_dir=inputs.hub_cache,
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    return Path(path)


def _patiently(ask: Callable[[], Result], what: str, sleep: Callable[[float], None]) -> Result:
    """The answer of `ask`, asked again after 0.5, 1 and 2 s where the hub is to blame."""
    for attempt in range(_RETRIES):
        try:
            return ask()
        except GatedRepoError as error:
            raise ModelNotFound(
                f"{what}: access is restricted; ask its owner, or set HF_TOKEN for the worker"
            ) from error
        except (RepositoryNotFoundError, RevisionNotFoundError, RemoteEntryNotFoundError) as error:
            raise ModelNotFound(f"{what}: no such repository or revision on the hub") from error
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 503
            if status < 500 and status not in (408, 429):
                raise ModelNotFound(f"{what}: the hub refused with HTTP {status}") from error
            reason: Exception = error
        except (httpx2.TransportError, LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
            reason = error
        if attempt + 1 < _RETRIES:
            sleep(_FIRST_WAIT_S * 2**attempt)
    raise HubUnavailable(f"{what}: the hub did not answer in {_RETRIES} tries ({type(reason).__name__})") from reason
