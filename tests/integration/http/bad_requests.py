"""Tables of requests that no client should send, each with the refusal that it must get.

An address or a body may name `<job>`, `<ended>`, `<dataset>`, `<comparison>`: rows that are there (see `Rows`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.integration.http.api import JSONL, ROWS, SPEC

JSON = {"content-type": "application/json"}
# Stands in fields that are refused; no answer may hold it.
CANARY = "c4n4ry"
SUITE: dict[str, Any] = {"task": "dolly", "data": "ds_00000000"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A request and the refusal that it must get."""

    name: str
    status: int
    code: str
    param: str | None = None
    method: str = "POST"
    url: str = "/v1/jobs"
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


def spec(name: str, param: str | None, /, **changed: Any) -> Bad:
    """A spec that is JSON and yet not a RunConfig, or not one that can be run."""
    body = json.dumps(SPEC | changed).encode()
    return Bad(name=name, status=422, code="validation_error", param=param, body=body)


def suite(name: str, param: str, /, **changed: Any) -> Bad:
    """A suite that is none, or that cannot be scored; None takes a field away."""
    given = {key: value for key, value in (SUITE | changed).items() if value is not None}
    at = "evaluation.suites.0" + (f".{param}" if param else "")
    return spec(name, at, evaluation={"suites": [given]})


def text(name: str, body: bytes) -> Bad:
    """A body that is no acceptable JSON."""
    return Bad(name=name, status=400, code="invalid_json", body=body)


def query(name: str, url: str, param: str, **headers: str) -> Bad:
    """A parameter out of its range."""
    return Bad(name=name, status=422, code="validation_error", param=param, method="GET", url=url, headers=headers)


def missing(name: str, url: str, method: str = "GET") -> Bad:
    """An address of nothing."""
    return Bad(name=name, status=404, code="not_found", method=method, url=url)


def model(name: str, reference: Any, param: str) -> Bad:
    """A teacher that must never reach a loader."""
    return spec(name, param, teacher=reference)


def raw(field_json: str) -> bytes:
    """The spec with one field written by hand."""
    return json.dumps(SPEC)[:-1].encode() + b", " + field_json.encode("utf-8", "surrogatepass") + b"}"


BODIES = [
    text("nothing", b""),
    text("half", b'{"teacher": '),
    text("NaN", raw('"tau_1": NaN')),
    text("Infinity", raw('"tau_1": Infinity')),
    text("minus Infinity", raw('"tau_1": -Infinity')),
    text("overflow", raw('"tau_1": 1e400')),
    text("a key twice", raw('"seed": 1, "seed": 2')),
    text("a key twice, deep", raw('"optimizer": {"batch_size": 1, "batch_size": 2}')),
    text("seventeen levels", raw('"metadata": ' + '{"a": ' * 16 + "1" + "}" * 16)),
    text("five hundred levels", raw('"metadata": ' + "[" * 500 + "]" * 500)),
    text("a hundred thousand levels", b"[" * 100_000),
    text("a hundred thousand objects", b'{"a":' * 100_000),
    text("NUL in a value", raw(r'"name": "a\u0000b"')),
    text("NUL in a key", raw(r'"a\u0000b": 1')),
    text("a raw NUL", raw('"name": "a\x00b"')),
    text("a lone surrogate", raw(r'"name": "\ud800"')),
    text("a lone surrogate in a key", raw(r'"\udfff": 1')),
    text("a surrogate as bytes", raw('"name": "\ud800"')),
    text("5000 digits", raw('"seed": ' + "9" * 5000)),
    text("65 digits", raw('"seed": ' + "9" * 65)),
    text("a list", b"[]"),
    text("a string", b'"job"'),
    text("null", b"null"),
    text("a number", b"7"),
    text("two documents", json.dumps(SPEC).encode() * 2),
    text("Latin-1", raw('"name": "café"').decode().encode("latin-1")),
    text("UTF-16", json.dumps(SPEC).encode("utf-16")),
    text("a byte-order mark", b"\xef\xbb\xbf" + json.dumps(SPEC).encode()),
    text("single quotes", b"{'teacher': 1}"),
    text("a trailing comma", b'{"seed": 1,}'),
    text("a comment", b'{"seed": 1 /* one */}'),
]
SPECS = [
    spec("an empty reference", "teacher", teacher={}),
    spec("a null teacher", "teacher", teacher=None),
    spec("a teacher by name alone", "teacher", teacher=CANARY),
    spec("an unknown field", "colour", colour=CANARY),
    spec("an unknown field inside", "optimizer.momentum", optimizer={"momentum": CANARY}),
    spec("an unknown field of a union's member", "teacher.depth", teacher={"tiny": "gpt2", "depth": 3}),
    spec("a bool for an integer", "epochs", epochs=True),
    spec("a bool for a number", "tau_1", tau_1=False),
    spec("a text for an integer", "epochs", epochs="7"),
    spec("a text for a number", "tau_1", tau_1="1.5"),
    spec("a fraction for an integer", "epochs", epochs=2.5),
    spec("minus five epochs", "epochs", epochs=-5),
    spec("2^40 epochs", "epochs", epochs=2**40),
    spec("2^63 as seed", "seed", seed=2**63),
    spec("64 digits as seed", "seed", seed=int("9" * 64)),
    spec("64 digits as number", "tau_1", tau_1=int("9" * 64)),
    spec("zero temperature", "tau_1", tau_1=0),
    spec("an unknown preset", "preset", preset=CANARY),
    spec("a list for an object", "optimizer", optimizer=[]),
    spec("alpha as text", "alpha", alpha=CANARY),
    spec("alpha in stages, one of them text", "alpha.1", alpha=[0.3, CANARY]),
    spec("a text inside a union's member", "teacher.layers", teacher={"tiny": "gpt2", "layers": CANARY}),
    spec("heads that do not divide", "teacher.heads", teacher={"tiny": "gpt2", "hidden": 48, "heads": 5}),
    spec("a student from nothing", "student.from", student={"from": CANARY, "drop_layers": 1}),
    spec("no source of data", "dataset", dataset={}),
    spec("two sources of data", "dataset", dataset={"train": "ds_00000000", "hub": "a/b"}),
    spec("a data set nobody uploaded", "dataset.train", dataset={"train": f"ds_{CANARY}00"}),
    spec("a file as data set", "dataset.train", dataset={"train": "/etc/passwd"}),
    spec("a URL as data set", "dataset.train", dataset={"train": "http://169.254.169.254/"}),
    spec("a newline behind an id", "dataset.train", dataset={"train": "ds_00000000\n"}),
    spec("a hub data set that climbs", "dataset.hub", dataset={"hub": "../../etc/passwd"}),
    suite("an unknown task", "task", task=CANARY),
    suite("a suite without rows", "", data=None),
    suite("a suite with two sources", "", hub="a/b"),
    suite("no seeds", "seeds", seeds=[]),
    suite("a seed twice", "seeds", seeds=[10, 20, 10]),
    suite("a text as seed", "seeds.0", seeds=[CANARY]),
    suite("seeds for greedy answers", "seeds", task="gsm8k", seeds=[10]),
    suite("examples of a task without any", "examples", examples="ds_00000000"),
    suite("a suite's data set nobody uploaded", "data", data=f"ds_{CANARY}00"),
    suite("a file as a suite's data set", "data", data="/etc/passwd"),
    suite("a suite's examples nobody uploaded", "data", task="gsm8k", examples="ds_00000000"),
    suite("programs that may not be run", "task", task="humaneval"),
    suite("a suite's name that climbs", "name", name="../x"),
    spec("a judge without a text suite", "evaluation.judge", evaluation={"judge": {"against": ["teacher"]}}),
    spec(
        "a judge against nobody", "evaluation.judge.against", evaluation={"suites": [SUITE], "judge": {"against": []}}
    ),
    spec("a difficulty that runs programs", "difficulty", difficulty="tests"),
    spec("two suites of one name", "evaluation.suites", evaluation={"suites": [SUITE, SUITE]}),
    spec(
        "seventeen suites", "evaluation.suites", evaluation={"suites": [SUITE | {"name": f"s{i}"} for i in range(17)]}
    ),
    spec("a number as metadata", "metadata.team", metadata={"team": 7}),
    spec("seventeen pairs of metadata", "metadata", metadata={str(i): "" for i in range(17)}),
    spec("a name of 121 letters", "name", name=CANARY + "n" * 115),
    spec("a control character in a name", "name", name="a\tb"),
    model("a path", {"hub": "../../etc/passwd"}, "teacher.hub"),
    model("a file URL", {"hub": "file:///etc/passwd"}, "teacher.hub"),
    model("a metadata service", {"hub": "http://169.254.169.254/"}, "teacher.hub"),
    model("a newline behind a name", {"hub": "org/a\n"}, "teacher.hub"),
    model("a homoglyph", {"hub": "оrg/model"}, "teacher.hub"),
    model("an absolute folder", {"local": "/etc"}, "teacher.local"),
    model("a folder that climbs", {"local": "a/../../b"}, "teacher.local"),
    model("a hidden folder", {"local": ".ssh"}, "teacher.local"),
    model("a folder where the operator has none", {"local": "llama"}, "teacher.local"),
    model("a revision that climbs", {"hub": "org/a", "revision": "../x"}, "teacher.revision"),
    model("a number as id", {"hub": 5}, "teacher.hub"),
]
ON = {"kind": "on"}
KEPT_8 = {"tiny": "gpt2", "top_k": 8}
# Of rules over several fields.
RULES = [
    spec("no layer left", "student.drop_layers", student={"from": "teacher", "drop_layers": 4}),
    spec("top k of what is not kept", "teacher.top_k", teacher={"tiny": "gpt2", "top_k": 8, "cache": "off"}),
    spec("top k of what taid mixes", "teacher.top_k", teacher=KEPT_8, preset="taid"),
    spec("top k of text to come", "teacher.top_k", teacher=KEPT_8, policy=ON),
    spec("a constant of another divergence", "constants.beta", divergence="kld", constants={"beta": 0.1}),
    spec("a constant out of its range", "constants.beta", divergence="skl", constants={"beta": 1.0}),
    spec("a constant that makes nothing of it", "constants.lam", divergence="bdl", constants={"lam": 0.5}),
    spec("a mixing that cannot follow", "mixing.kind", preset="dakd", mixing={"kind": "calibrated"}),
    spec("a policy that is off and says more", "policy.top_p", policy={"kind": "off", "top_p": 0.5}),
    spec("a buffer without effect", "policy.buffer", policy=ON | {"buffer": 64}),
    spec("a buffer too small", "policy.buffer", policy=ON | {"refresh": "step", "buffer": 1}),
    spec("a policy without a teacher", "policy", policy=ON, preset="sft"),
    spec("a policy that learns nothing", "policy", policy=ON, alpha=1.0),
    spec(
        "a policy that puts shards together", "policy.refresh",
        policy=ON | {"refresh": "step"}, resources={"gpus": 2, "sharding": "full"},
    ),
    spec("nothing to learn", "alpha", divergence="sft", alpha=0.0),
    spec("a budget of nothing", "budget", budget={"unit": "steps"}),
    spec("a budget too small for its epochs", "budget", budget={"unit": "steps", "amount": 2}),
    spec("a rank that training does not see", "refresh_every", refresh_every=1, difficulty="entropy"),
    spec("a validation set of no training set", "dataset.validation", dataset={"synthetic": {}, "validation": "ds_0"}),
    spec("a test set of no training set", "dataset.test", dataset={"synthetic": {}, "test": "ds_00000000"}),
    spec("a data set's revision that climbs", "dataset.revision", dataset={"hub": "a/b", "revision": "../../x"}),
    suite("a suite's hub that climbs", "hub", data=None, hub="../x"),
    suite("a suite's revision that climbs", "revision", data=None, hub="a/b", revision="../x"),
    suite("a suite's folder that climbs", "subset", data=None, hub="a/b", subset="../x"),
    suite("a suite's folder of no hub", "subset", subset="main"),
    suite("settings of a task that has its own", "settings", task="gsm8k", settings="paper"),
    suite("shots of a task without any", "shots", shots=4),
    spec(
        "a judge of a suite that is not there", "evaluation.judge.suites",
        evaluation={"suites": [SUITE], "judge": {"against": ["teacher"], "suites": ["vicuna"]}},
    ),
    spec(
        "a judge against a twin that is not trained", "evaluation.judge.against",
        evaluation={"suites": [SUITE], "judge": {"against": ["sft"]}},
    ),
    spec(
        "a judge against one twice", "evaluation.judge.against",
        evaluation={"suites": [SUITE], "judge": {"against": ["teacher", "teacher"]}},
    ),
    spec("a twin twice", "evaluation.baselines", evaluation={"baselines": ["sft", "sft"]}),
    spec("a judge where there is none", "evaluation.judge", evaluation={"suites": [SUITE], "judge": {"against": ["teacher"]}}),
]  # fmt: skip
QUERIES = [
    query("limit -1", "/v1/jobs?limit=-1", "limit"),
    query("limit 0", "/v1/jobs?limit=0", "limit"),
    query("limit 101", "/v1/jobs?limit=101", "limit"),
    query("limit as text", f"/v1/jobs?limit={CANARY}", "limit"),
    query("limit of 5000 digits", "/v1/jobs?limit=" + "9" * 5000, "limit"),
    query("an injected cursor", "/v1/jobs?cursor=%27%20OR%201%3D1", "cursor"),
    query("a cursor of NUL", "/v1/jobs?cursor=%00", "cursor"),
    query("a cursor of rubbish", "/v1/datasets?cursor=AAAA", "cursor"),
    query("a cursor without time zone", "/v1/jobs?cursor=MjAyNi0wMS0wMVQwMDowMDowMHxqb2I", "cursor"),
    query("an unknown state", f"/v1/jobs?state={CANARY}", "state"),
    query("after -1", "/v1/jobs/job_0/events?after=-1", "after"),
    query("after 2^31", f"/v1/jobs/job_0/events?after={2**31}", "after"),
    query("a Last-Event-ID of text", "/v1/jobs/job_0/events", "Last-Event-ID", **{"last-event-id": CANARY}),
    query("three points", "/v1/jobs/job_0/metrics?points=3", "points"),
    query("a NUL in a series' name", "/v1/jobs/job_0/metrics?name=%00", "name"),
    query("an unknown format", "/v1/jobs/job_0/checkpoints/model/download?format=zip", "format"),
]
ADDRESSES = [
    missing("an address of nothing", "/v1/nothing"),
    missing("a slash too many", "/v1/jobs/"),
    missing("an unknown job", "/v1/jobs/job_00000000"),
    missing("a NUL in an id", "/v1/jobs/job_%00"),
    missing("an injected id", "/v1/jobs/' OR 1=1"),
    missing("an id beyond any length", "/v1/jobs/" + "j" * 2000),
    missing("an unknown data set", "/v1/datasets/ds_00000000"),
    missing("an invalid byte in an id", "/v1/jobs/%ff%fe/events"),
    missing("an unknown job to cancel", "/v1/jobs/job_00000000/cancel", "POST"),
    missing("an unknown checkpoint", "/v1/jobs/job_00000000/checkpoints/%00"),
    Bad(name="a method of nothing", status=405, code="method_not_allowed", method="PUT"),
    Bad(name="a made-up method", status=405, code="method_not_allowed", method="BREW"),
    Bad(name="a long address", status=414, code="uri_too_long", method="GET", url="/v1/jobs?cursor=" + "a" * 9000),
]
UPLOAD = "/v1/datasets?name=a.jsonl"
MEDIA = [
    Bad(name="no content type", status=415, code="unsupported_media_type", body=b"{}", headers={}),
    Bad(name="a form", status=415, code="unsupported_media_type", body=b"a=1", headers={"content-type": "text/plain"}),
    Bad(name="a body of 1 MiB and a byte", status=413, code="body_too_large", body=b" " * (2**20 + 1)),
    Bad(
        name="text as upload",
        status=415,
        code="unsupported_media_type",
        url=UPLOAD,
        headers={"content-type": "text/plain"},
    ),
    Bad(
        name="an upload too large", status=413, code="upload_too_large", url=UPLOAD, body=b"x" * 200_001, headers=JSONL
    ),
    Bad(
        name="an upload without name",
        status=422,
        code="validation_error",
        param="name",
        url="/v1/datasets",
        headers=JSONL,
    ),
    Bad(
        name="a NUL in an upload's name",
        status=422,
        code="validation_error",
        param="name",
        url="/v1/datasets?name=%00",
        body=ROWS,
        headers=JSONL,
    ),
    Bad(
        name="a fraction that is not a number",
        status=422,
        code="validation_error",
        param="max_bad_row_fraction",
        url=f"{UPLOAD}&max_bad_row_fraction=nan",
        body=ROWS,
        headers=JSONL,
    ),
    Bad(
        name="a checksum that is none",
        status=422,
        code="validation_error",
        param="X-Checksum-SHA256",
        url=UPLOAD,
        body=ROWS,
        headers=JSONL | {"x-checksum-sha256": CANARY},
    ),
    Bad(
        name="an empty Idempotency-Key",
        status=422,
        code="validation_error",
        param="Idempotency-Key",
        body=json.dumps(SPEC).encode(),
        headers=JSON | {"idempotency-key": ""},
    ),
    Bad(
        name="an Idempotency-Key of 256",
        status=422,
        code="validation_error",
        param="Idempotency-Key",
        body=json.dumps(SPEC).encode(),
        headers=JSON | {"idempotency-key": "k" * 256},
    ),
    Bad(name="an empty upload", status=422, code="invalid_dataset", url=UPLOAD, body=b"", headers=JSONL),
    Bad(
        name="an upload of rubbish",
        status=422,
        code="invalid_dataset",
        url=UPLOAD,
        body=b"\x00\xff\n" * 99,
        headers=JSONL,
    ),
]
