"""A search over a function, in a process of its own that kills itself at a chosen report."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from experiments.runner import search_driver
from experiments.runner.search import search
from experiments.spec.conditions import When
from experiments.spec.space import Choice, Real

SPACE = {
    "rate": Real(1e-4, 1.0, "log"),
    "kind": Choice(("a", "b")),
    "extra": When("kind", "a", Real(0.0, 1.0)),
}


def objective(hyperparameters, budget, report):
    """A curve that falls to a floor, its state kept between calls; every epoch leaves a line."""
    state = report.folder / "state.json"
    total = json.loads(state.read_text()) if report.last else 0.0
    extra = hyperparameters.get("extra", 0.7)
    for epoch in range(report.last + 1, budget + 1):
        total += hyperparameters["rate"] * (1 + extra)
        with open(Path(report.folder).parents[2] / "epochs", "a") as file:
            file.write(f"{report.folder.name} {epoch}\n")
            file.flush()
        if os.environ.get("KILL") and lines(report) >= int(os.environ["KILL"]):
            os.kill(os.getpid(), signal.SIGKILL)
        going = report(epoch, abs(total - 0.05) + 1 / epoch)
        state.write_text(json.dumps(total))
        if not going:
            return


def lines(report) -> int:
    """Epochs that were begun by now, over all processes."""
    return len((Path(report.folder).parents[2] / "epochs").read_text().splitlines())


def run(folder: Path, **options):
    """Seventeen trials in the brackets of Hyperband."""
    search_driver.COMMIT_SECONDS = 0.0
    return search(
        SPACE, objective=objective, budget=9, pruner="hyperband", folder=folder / "record",
        show=False, **options,
    )  # fmt: skip


if __name__ == "__main__":
    run(Path(sys.argv[1]))
