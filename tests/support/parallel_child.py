"""What eight simulated devices do, as JSON: run in a process of its own by the tests."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from typing import Any

from experiments.planning.execution import ExecutionRequest
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.training.layout import Layout, chosen_layout
from support.engine_factory import tiny_study
from support.mixed import MIXED
from support.parallel_factory import BATCH, apart, difference, mixed_program, trained

ALONE = {
    "pmap 8": Layout("pmap", data=8),
    "shard_map 8": Layout("shard_map", data=8),
    "micro-batches": Layout("shard_map", data=2, micro_batch=8),
}
"""One trial over several devices."""
PACKS = {
    "trials 4, data 2": (Layout("shard_map", 4, 2), 4),
    "trials 2": (Layout("shard_map", 2), 4),
}
"""Six trials in fewer slots; the last two have two slots to a group of devices."""


def main() -> None:
    """Prints layout -> (difference of measurements, of the final state); plans; refusals."""
    program = mixed_program()
    expected, state = trained(program)
    found = {}
    for name, layout in ALONE.items():
        results, end = trained(program, layout)
        found[name] = (apart(results, expected), difference(end, state))
    several, _ = trained(program, trials=6)
    for name, (layout, slots) in PACKS.items():
        results, _ = trained(program, layout, slots, 6, "packed")
        found[name] = (apart(results, several), 0.0)
    print(json.dumps({"differences": found, "plans": plans(), "refused": refused()}))


def plans() -> dict[str, Any]:
    """What is measured without a wish; the plans of a study on a mesh that grew without one."""
    layout = chosen_layout(None, (4, 2), None)
    study = tiny_study(workload=MIXED, batch_sizes=(BATCH,), trials=1)
    with tempfile.TemporaryDirectory() as folder:
        run_study(study, folder, execution="scan", layout=layout)
        run_study(dataclasses.replace(study, trials=2), folder)
        record = read(folder)
    return {
        "candidates": [str(e) for e in ExecutionRequest().candidates(True)],
        "whole": [str(e) for e in ExecutionRequest().candidates(False)],
        "recorded": [plan["executions"] for plan in record.study["plans"]],
        "device": record.study["plans"][0]["device"],
        "workers": record.study["plans"][0]["workers"],
        "trials": record.trials.height,
    }


def refused() -> list[str]:
    """The messages to wishes that do not go together."""
    wishes = [
        lambda: chosen_layout(None, (4, 4), None),
        lambda: chosen_layout(None, (3, 2), None),
        lambda: chosen_layout("pmap", (4, 2), None),
        lambda: ExecutionRequest("packed", chosen_layout("pmap", None, None)).candidates(True),
        lambda: ExecutionRequest("loop", chosen_layout(None, (8, 1), None)).candidates(True),
    ]
    messages = []
    for wish in wishes:
        try:
            wish()
        except ValueError as error:
            messages.append(str(error))
    return messages


if __name__ == "__main__":
    main()
