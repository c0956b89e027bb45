"""``batchscale plan``: what fits in memory, how fast it is, what the study will take."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.commands.arguments import check_output, whole_number
from experiments.commands.chosen import add_study_arguments, chosen_study

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
MEASURED = "experiments.diagnostics.recorded:recorded_measurements"
"""What a study measures beside its metrics: only the child that plans it imports jax."""
COLUMNS = ("batch", "memory", "of", "step", "95 % interval", "examples/s", "x", "bound by")


def add(commands: Any) -> None:
    """The command ``plan``."""
    plan = commands.add_parser("plan", help="feasible batch sizes, throughput, time and memory")
    add_study_arguments(plan, without=("batch-sizes",))
    plan.add_argument(
        "--batch-sizes", type=whole_number(1), nargs="+", metavar="B", help="(powers of two)"
    )
    plan.add_argument(
        "--workers", type=whole_number(1), metavar="W", help="trials side by side (as a study)"
    )
    plan.add_argument(
        "--memory", type=_bytes, metavar="M", help="to plan for, as 800MB or 16GB (the device's)"
    )
    plan.add_argument("--json", type=Path, metavar="FILE", help="write all that was found here")
    plan.set_defaults(function=plan_command)


def plan_command(options: argparse.Namespace) -> int:
    """Plan every study that is meant; print, and write the JSON."""
    from experiments.planning.study import DeviceRequest, plan_study
    from experiments.spec.comparison import Comparison
    from experiments.spec.paths import Paths
    from experiments.spec.study import resolve
    from experiments.spec.user_search import UserSearch

    check_output(options.json)
    study = chosen_study(argparse.Namespace(**{**vars(options), "batch_sizes": None}))
    if isinstance(study, UserSearch) and study.proposer is not None:
        from experiments.commands.plan_architectures import plan_architectures

        return _written(plan_architectures(study, options.data_dir), options.json)
    if isinstance(study, (Paths, UserSearch)):
        raise ValueError(f"{study.name} has no batch sizes to plan")  # noqa: TRY004 (bad input)
    members = list(study.studies.values()) if isinstance(study, Comparison) else [study]
    request = DeviceRequest(options.workers, options.parallel, options.mesh, options.micro_batch)
    found = []
    for member in map(resolve, members):
        answer = plan_study(
            member,
            _checked(options.batch_sizes or (), member.train_size),
            data_dir=options.data_dir,
            request=request,
            memory=options.memory,
            stream=options.stream,
            measurements=MEASURED,
            say=lambda line: print(f"  {line}", flush=True),
        )
        found.append(answer)
        print("\n".join(described(answer)))
    return _written(found if isinstance(study, Comparison) else found[0], options.json)


def _written(result: Any, file: Path | None) -> int:
    if file:
        file.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written: {file}")
    return 0


def _checked(sizes: Any, largest: int) -> tuple[int, ...]:
    for size in sizes:
        if size > largest:
            raise ValueError(f"--batch-sizes must lie in 1..{largest} (training set), got {size}")
    return tuple(sizes)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(KB|MB|GB|)", text.upper())
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"must be a size like 800MB or 16GB, got {text!r}")
    return int(float(found[1]) * UNITS[found[2]])


def described(answer: Mapping[str, Any]) -> list[str]:
    """The answer as lines of text."""
    workers, study = answer["workers"], answer["study"]
    side = f", {workers} trials side by side" if workers > 1 else ""
    lines = [
        f"{answer['study_name']} on {answer['device']}; memory: dataset and programs "
        + f"(not the process itself){side}"
    ]
    table = [COLUMNS, *(_cells(row) for row in answer["rows"])]
    widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
    lines += ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in table]
    lines += [
        "memory: predicted from the compiled program, of what there is; v: verified by steps;"
    ]
    lines += ["x: examples/s over the batch size before; *: doubling B does not nearly double them"]
    if answer["largest"] is None:
        return [*lines, "no batch size fits"]
    lines.append(f"largest batch size that fits: {answer['largest']}")
    if answer["plateau"] is not None:
        lines.append(f"throughput is at 90 % of its best from batch size {answer['plateau']}")
    if study["seconds"]:
        least, most = map(_duration, study["seconds"])
        time = least if least == most else f"{least} to {most}"
        needs = study["predicted_bytes"]
        memory = f", memory {_size(needs)}" if needs else ""
        lines.append(f"the whole study, by scan: {study['trials']} trials, {time}{memory}")
    if study["does_not_fit"]:
        refused = " ".join(map(str, study["does_not_fit"]))
        lines.append(f"the study's batch sizes that do not fit: {refused}")
    return lines


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    needs = _size(row["predicted_bytes"]) if "predicted_bytes" in row else "?"
    limit = _size(row["limit_bytes"]) if "limit_bytes" in row else "?"
    mark = "v" if "peak_bytes" in row else " " if row["fits"] else "-"
    first = (str(row["batch_size"]), f"{needs} {mark}", limit)
    if "seconds_per_step" not in row:
        return (*first, "", "", "", "", "" if row["fits"] else "does not fit")
    low, high = row["seconds_interval"]
    times = f"{1e3 * row['seconds_per_step']:.3g} ms", f"{1e3 * low:.3g} to {1e3 * high:.3g}"
    speedup = f"{row['speedup']:.2f}{'*' if row['flagged'] else ' '}" if "speedup" in row else ""
    rate = f"{row['examples_per_second']:,.0f}"
    return (*first, *times, rate, speedup, row["bound"] or "")


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
