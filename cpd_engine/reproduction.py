"""How a student is made again: the spec with everything pinned, and the script that carries it out and compares the weights. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from cpd_engine.config import HubModel, RunConfig
from cpd_engine.lineage import Lineage, Source

SPEC, SCRIPT, SUMS = "spec.json", "reproduce.sh", "SHA256SUMS"
# `.jsonl`, `.jsonl.gz`: an ending tells the engine how a file is read.
_ENDING = re.compile(r"\.[a-z0-9]{1,8}(\.gz)?$")


def pinned(
    config: RunConfig,
    *,
    commits: Mapping[str, str],
    suite_commits: Mapping[str, str],
    files: Mapping[str, str],
    precision: str,
    threads: int,
) -> RunConfig:
    """The same run with nothing left to chance: commits for moving names, this run's precision and threads, files by plain names.

    `commits` by "teacher", "student", "dataset", `suite_commits` by suite; `files`: the plain name of every file of rows by its place,
    such as "train" or "suite-1-data".
    """
    given = config.model_dump(mode="json")
    for name, ref in (("teacher", config.teacher), ("student", config.student)):
        if isinstance(ref, HubModel) and name in commits:
            given[name]["revision"] = commits[name]
    if config.dataset.hub is not None and "dataset" in commits:
        given["dataset"]["revision"] = commits["dataset"]
    given["dataset"] |= {split: files[split] for split in ("train", "validation", "test") if split in files}
    for number, suite in enumerate(config.evaluation.suites):
        told = given["evaluation"]["suites"][number]
        told |= {field: files[place(number, field)] for field in suite.files if place(number, field) in files}
        if suite.hub is not None and suite.title in suite_commits:
            told["revision"] = suite_commits[suite.title]
    return RunConfig.model_validate_json(json.dumps(given | {"precision": precision, "threads": threads}))


def place(number: int, field: str) -> str:
    """What a suite's file is called among the others: suites count from 1."""
    return f"suite-{number + 1}-{field}"


def plain_name(place: str, name: str) -> str:
    """`train` and `my rows.jsonl` → `train.jsonl`: a name that no shell and no reader can misunderstand."""
    ending = _ENDING.search(name.lower())
    return place + (ending[0] if ending else "")


def script(lineage: Lineage, files: Mapping[str, Source]) -> str:
    """reproduce.sh. `files`: what is to be found among the rows that its user has, by the plain name that spec.json has for it.

    Nothing in it was written by a user but hashes and those plain names.
    """
    takes = [f"take {name} {file.sha256}" for name, file in files.items()]
    version, commit = lineage.engine["version"], lineage.engine["commit"]
    made_by = f"cpd {version}" + (f" (commit {commit})" if commit else "")
    return _SCRIPT.replace("@MADE_BY@", made_by).replace("@TAKES@", "\n".join(takes) or ": # no file of rows is needed")


_SCRIPT = r"""#!/usr/bin/env bash
# Makes this student again and tells whether its weights are the same, bit for bit.
#
#   bash reproduce.sh OUT [ROWS]             on this machine, into the new folder OUT
#   bash reproduce.sh --service OUT [ROWS]   as a job of the service that the command `cpd` finds (CPD_URL, CPD_API_KEY)
#
# ROWS: a folder that holds the files of rows, found by their sha256 whatever their names.
# Wants @MADE_BY@ with its extra `engine`, in the Python that PYTHON names (else python3).
# lineage.json tells libraries, device and threads: with others the weights may differ in their last bits.
# Models on a hub: CPD_HUB_ENDPOINT, CPD_HUB_CACHE. Local ones: CPD_MODEL_ROOTS, folders separated by colons.
# Programs as answers: CPD_CODE_EXECUTION=bubblewrap. A judge: CPD_JUDGE_URL, CPD_JUDGE_MODEL, CPD_JUDGE_API_KEY.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
service=no
if [ "${1-}" = --service ]; then service=yes; shift; fi
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
rows=${2-.}
mkdir -p "$out/recipe"
cp "$here/spec.json" "$out/recipe/spec.json"

take() { # NAME SHA256
  local file
  for file in "$rows"/*; do
    if [ -f "$file" ] && [ "$(sha256sum <"$file" | cut -d ' ' -f 1)" = "$2" ]; then
      cp "$file" "$out/recipe/$1"
      return
    fi
  done
  echo "reproduce.sh: no file in $rows has the sha256 $2 of $1; name the folder that holds it" >&2
  exit 2
}

@TAKES@

if [ "$service" = yes ]; then
  job=$(cpd submit "$out/recipe/spec.json")
  echo "$job"
  cpd watch "$job" --exit-status >&2
  cpd download "$job" --out "$out/student" >/dev/null
  made=$out/student
else
  options=()
  if [ -n "${CPD_HUB_ENDPOINT-}" ]; then options+=(--hub-endpoint "$CPD_HUB_ENDPOINT"); fi
  if [ -n "${CPD_HUB_CACHE-}" ]; then options+=(--hub-cache "$CPD_HUB_CACHE"); fi
  if [ -n "${CPD_CODE_EXECUTION-}" ]; then options+=(--code-execution "$CPD_CODE_EXECUTION"); fi
  if [ -n "${CPD_JUDGE_URL-}" ]; then options+=(--judge-url "$CPD_JUDGE_URL" --judge-model "${CPD_JUDGE_MODEL-}"); fi
  if [ -n "${CPD_MODEL_ROOTS-}" ]; then
    IFS=: read -r -a roots <<<"$CPD_MODEL_ROOTS"
    for root in "${roots[@]}"; do options+=(--model-root "$root"); done
  fi
  "${PYTHON:-python3}" -m cpd_engine run "$out/recipe/spec.json" --out "$out/run" \
    ${options[@]+"${options[@]}"} >"$out/events.jsonl"
  made=$out/run/export
fi

if grep '\.safetensors$' "$here/SHA256SUMS" | (cd "$made" && sha256sum --check --quiet); then
  echo "The weights are the same, bit for bit: $made"
else
  echo "The weights differ: compare lineage.json here and in $made" >&2
  exit 1
fi
"""
