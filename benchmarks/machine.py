"""What a benchmark was measured on, and where its JSON goes."""

from __future__ import annotations

import datetime
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write_results(name: str, results: dict[str, Any]) -> Path:
    """``results/<name>.json`` with the machine's description, and its path."""
    RESULTS.mkdir(exist_ok=True)
    return write_json(RESULTS / f"{name}.json", results)


def write_json(path: Path, results: dict[str, Any]) -> Path:
    """A file of results with the machine's description, and its path."""
    path.write_text(json.dumps({**described(), **results}, indent=2) + "\n")
    return path


def described() -> dict[str, Any]:
    """The day, the machine and its load by now."""
    from experiments.runtime.environment import environment

    return {
        "date": datetime.date.today().isoformat(),
        "machine": environment(),
        "load_average_at_the_end": [round(x, 2) for x in os.getloadavg()],
    }


def seconds(function: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def alternated(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each function, called in turn so that a noisy moment hits all."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return {name: statistics.median(values) for name, values in times.items()}
