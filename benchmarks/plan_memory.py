"""Memory that `batchscale plan` predicts, beside the peak that was measured, for several workloads.

    python -m benchmarks.plan_memory [--quick]

Each workload in a process of its own, one trial of momentum. Measured is, on a CPU, how far the
process's resident set grows (VmHWM less VmRSS before, after a run that compiled), plus the
dataset; on an accelerator the allocator's peak. Results go to benchmarks/results/plan_memory.json.
"""

from __future__ import annotations

import argparse
from typing import Any

import workloads
from benchmarks.machine import write_results
from experiments.planning.study import DeviceRequest, PlanningTask, ask
from experiments.spec.study import Study

CASES = (
    ("fashion_mnist_fc", 16384),
    ("fashion_mnist_cnn", 512),
    ("synthetic_images", 256),
    ("synthetic_tokens", 1024),
    ("text_lstm", 256),
)


def measure(name: str, batch_size: int) -> dict[str, Any]:
    """A row."""
    study = Study(
        name, "How much memory?", workloads.get(name), (batch_size,), 1, 1, optimizer="momentum"
    ).resolved
    found: dict[str, Any] = {"workload": name, "batch_size": batch_size}
    for what in ("predict", "verify"):
        last = ask(PlanningTask(what, study, (batch_size,), None, DeviceRequest(workers=1)))[-1]
        found |= {k: v for k, v in last.items() if k.endswith("_bytes") and k != "limit_bytes"}
    found["predicted_over_measured"] = found["predicted_bytes"] / found["peak_bytes"]
    return found


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the first workload alone")
    options = parser.parse_args()
    rows = []
    for name, batch_size in CASES[:1] if options.quick else CASES:
        rows.append(measure(name, batch_size))
        predicted, measured = (rows[-1][k] / 1e6 for k in ("predicted_bytes", "peak_bytes"))
        ratio = rows[-1]["predicted_over_measured"]
        print(f"{name} B = {batch_size}: {predicted:.0f} MB / {measured:.0f} MB = {ratio:.2f}")
    file = "plan_memory_quick" if options.quick else "plan_memory"
    print(f"written: {write_results(file, {'rows': rows})}")


if __name__ == "__main__":
    main()
