"""``batchscale plan``: which batch sizes fit, how fast they are, what the whole study will take.

This process never touches the device: predictions, verification and measurements are made by
children (experiments/planning/child.py), which may run out of memory and be killed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.spec.errors import StudyError
from experiments.spec.resolved import ResolvedStudy

NEARLY_DOUBLE = 1.8
PLATEAU = 0.9
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class DeviceRequest:
    """The workers and the layout that a caller asks for; only a child sees the devices.

    Attributes:
      workers: trials trained side by side; None: as a study would.
      parallel, mesh, micro_batch: what `experiments.training.layout.chosen_layout` takes; one
        device where all are None.
    """

    workers: int | None = None
    parallel: str | None = None
    mesh: tuple[int, int] | None = None
    micro_batch: int | None = None


ANYWHERE = DeviceRequest()


@dataclasses.dataclass(frozen=True)
class PlanningTask:
    """A request to a child process: ``what`` is "predict", "verify" or "measure"."""

    what: str
    study: ResolvedStudy
    batch_sizes: tuple[int, ...]
    data_dir: str | None
    request: DeviceRequest = ANYWHERE
    memory: int | None = None
    stream: bool | None = None
    measurements: str = ""

    @property
    def study_file(self) -> str:
        """The user's file that defines the study; "" where there is none."""
        return self.study.source


def powers_of_two(study: ResolvedStudy) -> tuple[int, ...]:
    """From the study's smallest batch size to the training set."""
    smallest = 1 << (min(study.batch_sizes).bit_length() - 1)
    return tuple(smallest << k for k in range(64) if smallest << k <= study.train_size)


def plan_study(
    study: ResolvedStudy,
    batch_sizes: Sequence[int] = (),
    *,
    data_dir: str | None = None,
    request: DeviceRequest = ANYWHERE,
    memory: int | None = None,
    stream: bool | None = None,
    measurements: str = "",
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Feasible batch sizes, throughput, and the study's time and memory, as JSON values.

    Args:
      study: the question.
      batch_sizes: to examine; default: `powers_of_two`.
      data_dir: where the dataset's files are, if not in the usual places.
      request: workers, devices and micro-batches.
      memory: bytes to plan for, instead of what the device has.
      stream: read the training data from disk; by their size where None.
      measurements: ``"module:attribute"`` of a function of the study and its `ResidentData`, what
        is measured beside its metrics; none where empty.
      say: takes a line now and then.

    Returns:
      ``rows``, one a batch size: what was predicted, verified and measured of it; ``largest``, the
      largest batch size that fits, verified by real steps (None if none does); ``plateau``, the
      smallest with 90 % of the best throughput; ``study``: seconds and bytes.

    Raises:
      StudyError: the study cannot be built, or a child failed otherwise than by its memory.
    """
    sizes = tuple(sorted(set(batch_sizes) or powers_of_two(study)))
    task = PlanningTask("predict", study, sizes, data_dir, request, memory, stream, measurements)
    say("predicting memory from the compiled programs")
    header, *rows = ask(task)
    if "device" not in header:
        raise StudyError(f"the dataset does not fit in memory ({header['out_of_memory']})")
    if rows and rows[-1].get("out_of_memory"):  # its compilation did not fit
        rows[-1] = {"batch_size": sizes[len(rows) - 1], "fits": False, **rows[-1]}
    fitting = [row["batch_size"] for row in rows if row["fits"]]
    by_size = {row["batch_size"]: row for row in rows}
    largest = None
    while fitting and largest is None:
        say(f"verifying batch size {fitting[-1]} by real steps")
        found = ask(dataclasses.replace(task, what="verify", batch_sizes=(fitting[-1],)))
        by_size[fitting[-1]] |= found[-1]
        row = by_size[fitting[-1]]
        if row.get("peak_bytes", math.inf) <= row["limit_bytes"]:
            largest = fitting[-1]
        else:
            by_size[fitting.pop()]["fits"] = False
    measured: list[dict[str, Any]] = []
    if largest is not None:
        say("measuring throughput")
        measured = ask(dataclasses.replace(task, what="measure", batch_sizes=tuple(fitting)))
    facts = {k: v for answer in measured if "batch_size" not in answer for k, v in answer.items()}
    for answer in measured:
        if "batch_size" in answer:
            by_size[answer["batch_size"]] |= _timing(answer)
    timed = [row for row in rows if "seconds_per_step" in row]
    _flag(timed, facts)
    best = max((row["examples_per_second"] for row in timed), default=0.0)
    plateau = [r["batch_size"] for r in timed if r["examples_per_second"] >= PLATEAU * best]
    return {
        "study_name": study.name,
        **header,
        **facts,
        "rows": rows,
        "largest": largest,
        "plateau": plateau[0] if plateau else None,
        "study": _whole_study(study, by_size, timed, header["workers"]),
    }


def ask(task: PlanningTask) -> list[dict[str, Any]]:
    """The answers of one child; a death by signal, or an abort, counts as out of memory."""
    command = [sys.executable, "-m", "experiments.planning.child"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        try:
            out, err = child.communicate(pickle.dumps(task))
        except BaseException:
            child.kill()
            raise
    found = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    if child.returncode < 0:
        found.append({"out_of_memory": f"the process was ended by signal {-child.returncode}"})
    elif child.returncode:
        last = (err.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise StudyError(f"planning failed: {last}")
    failed = [answer["error"] for answer in found if "error" in answer]
    if failed:
        raise StudyError(failed[0])
    return found


def _timing(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Median seconds of a step, a 95 % interval of it, and examples per second."""
    found = answer["step_seconds"]
    seconds = statistics.median(found)
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(found, k=len(found))) for _ in range(1000))
    low, high = medians[25], medians[974]
    batch_size = answer["batch_size"]
    row = {
        "seconds_per_step": seconds,
        "seconds_interval": [low, high],
        "examples_per_second": batch_size / seconds,
        "input_share": answer["input_share"],
    }
    if "evaluated_step_seconds" in answer:
        evaluated = statistics.median(answer["evaluated_step_seconds"])
        row["evaluation_seconds"] = max(0.0, evaluated - seconds)
    return row


def _flag(timed: Sequence[dict[str, Any]], facts: Mapping[str, Any]) -> None:
    """Adds ``speedup`` over the batch size before, whether that is short of what was to be had
    (``flagged``), and what bounds the step (``bound``)."""
    for before, row in zip([None, *timed], timed, strict=False):
        if before is not None:
            row["speedup"] = row["examples_per_second"] / before["examples_per_second"]
            grown = row["batch_size"] / before["batch_size"]
            row["flagged"] = row["speedup"] < NEARLY_DOUBLE / 2 * grown
    for place, row in enumerate(timed):
        other = timed[place - 1] if place else (timed[1] if len(timed) > 1 else None)
        row["bound"] = bound(row, other, facts)


def bound(
    row: Mapping[str, Any], other: Mapping[str, Any] | None, facts: Mapping[str, Any]
) -> str | None:
    """Name what bounds a step, from measured quantities.

    Between two batch sizes the seconds of a step are a + b B. Where a is at least half of them,
    launching is the bound ("dispatch"), or the traffic of the parameters' update where that, at the
    measured bandwidth, takes at least half of a ("memory"). Else the examples are the bound:
    "input" where the host's preparation takes at least half of the step; else "arithmetic" or
    "memory", whichever of operations over the measured rate of a matrix product and bytes over the
    measured bandwidth takes longer (operations and bytes as XLA counts them).

    Args:
      row, other: of a batch size and of another one; None: nothing to compare with.
      facts: ``rates`` and ``traffic_bytes`` (batch size -> bytes of a step, at two batch sizes).
    """
    if other is None:
        return None
    size, seconds = row["batch_size"], row["seconds_per_step"]
    slope = (seconds - other["seconds_per_step"]) / (size - other["batch_size"])
    fixed = min(max(seconds - slope * size, 0.0), seconds)
    (low, few), (high, many) = sorted((int(b), v) for b, v in facts["traffic_bytes"].items())
    each = (many - few) / (high - low)
    bandwidth = facts["rates"]["bytes"]
    if fixed >= seconds / 2:
        update = max(few - each * low, 0.0) / bandwidth
        return "memory" if update >= fixed / 2 else "dispatch"
    if row["input_share"] >= 0.5:
        return "input"
    arithmetic = row["flops"] / facts["rates"]["flops"]
    return "arithmetic" if arithmetic >= (few + each * (size - low)) / bandwidth else "memory"


def _whole_study(
    study: ResolvedStudy,
    by_size: Mapping[int, Mapping[str, Any]],
    timed: Sequence[Mapping[str, Any]],
    workers: int,
) -> dict[str, Any]:
    """Seconds with one trial at a time and, at best, with all workers; the most memory; what does
    not fit. Batch sizes in between are interpolated, larger ones take time in proportion."""
    sizes, trials = study.batch_sizes, study.trials * len(study.seeds)
    refused = [b for b in sizes if any(not r["fits"] and b >= s for s, r in by_size.items())]
    needs = [r["predicted_bytes"] for b, r in by_size.items() if b in sizes and r["fits"]]
    if not timed:
        return {"seconds": None, "predicted_bytes": None, "does_not_fit": refused}
    evaluation = timed[0].get("evaluation_seconds", 0.0)
    total = 0.0
    for batch_size in set(sizes) - set(refused):
        length = study.length(batch_size)
        evaluations = len(study.grid(length))
        total += trials * (length * _seconds_at(batch_size, timed) + evaluations * evaluation)
    return {
        "seconds": [total / workers, total],
        "trials": trials * len(sizes),
        "predicted_bytes": max(needs, default=None),
        "does_not_fit": refused,
    }


def _seconds_at(batch_size: int, timed: Sequence[Mapping[str, Any]]) -> float:
    points = [(row["batch_size"], row["seconds_per_step"]) for row in timed]
    below = max((p for p in points if p[0] <= batch_size), default=points[0])
    above = min((p for p in points if p[0] >= batch_size), default=None)
    if above is None:
        return below[1] * batch_size / below[0]
    if above == below or batch_size < below[0]:
        return above[1]
    share = (batch_size - below[0]) / (above[0] - below[0])
    return below[1] + share * (above[1] - below[1])
