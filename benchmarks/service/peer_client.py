"""Run by the interpreter of MLflow's own environment: logs and reads the same series through MLflow's client.

`peer_client.py URI STEPS BATCH READS`; prints JSON.
"""

from __future__ import annotations

import json
import sys
import time


def main(uri: str, steps: int, batch: int, reads: int) -> None:
    """`batch`: metrics a call; 9 is one call a step, as `mlflow.log_metrics(…, step=…)` makes it, 1,000 the most MLflow takes."""
    import mlflow  # type: ignore[import-not-found]  # it is not of our environment
    from mlflow.entities import Metric  # type: ignore[import-not-found]  # nor is this

    client = mlflow.MlflowClient(tracking_uri=uri)
    run_id = client.create_run(client.create_experiment(f"cpd-{time.time_ns()}")).info.run_id
    now = int(time.time() * 1000)
    points = [Metric(name, value, now, step) for step in range(1, steps + 1) for name, value in measured(step).items()]
    client.log_batch(run_id, metrics=points[:1])
    cpu, started = time.process_time(), time.perf_counter()
    for first in range(0, len(points), batch):
        client.log_batch(run_id, metrics=points[first : first + batch])
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    took = []
    for _ in range(reads):
        began = time.perf_counter()
        found = client.get_metric_history(run_id, "student/loss")
        took.append(time.perf_counter() - began)
        assert {metric.step for metric in found} == set(range(1, steps + 1))
    json.dump({"points": len(points), "wall_s": wall_s, "cpu_s": cpu_s, "reads": took}, sys.stdout)


def measured(step: int) -> dict[str, float]:
    """The nine points that a step of ours leaves."""
    loss = 2.0 + 1.0 / step
    values = {"loss": loss, "ce": loss * 0.3, "kd": loss * 0.7, "grad_norm": 1.0, "learning_rate": 1e-4}
    process = {"tokens_per_s": 1000.0, "step_s": 0.5, "memory_bytes": 1e9}
    return {f"student/{name}": value for name, value in (values | {"tokens": 512.0 * step} | process).items()}


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in sys.argv[2:]))
