"""``batchscale import-batch-science``: the archive published with Shallue et al. (2019)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.arguments import whole_number
from experiments.spec.fields import SAMPLERS

if TYPE_CHECKING:
    from workloads.base import Goal


def add(commands: Any) -> None:
    """The command ``import-batch-science``."""
    parser = commands.add_parser(
        "import-batch-science", help="records from the archive of Shallue et al. (2019)"
    )
    parser.add_argument(
        "source", type=Path, metavar="SRC", help="the archive, a part of it, or one workload"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--goal",
        action="append",
        default=[],
        metavar="[WORKLOAD:]METRIC=VALUE",
        help="for all workloads or one (default: as published, for the nine of figure 1)",
    )
    parser.add_argument(
        "--trials", type=whole_number(1), metavar="N", help="COMPLETE trials a batch size counts"
    )
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="not stated",
        help="how points were drawn; halton for the published archive (default: not stated)",
    )
    parser.set_defaults(function=import_command)


def import_command(options: argparse.Namespace) -> int:
    """Read the archive, write the records, say where they are."""
    from experiments.records.exchange.batch_science import ImportRequest, import_archive

    asked = ImportRequest(goals_of(options.goal), options.trials, options.sampler)
    records = import_archive(
        options.source, options.out, asked, lambda workload: print(f"{workload} ...", flush=True)
    )
    for record in records:
        print(f"record: {record}")
    print(f"next: batchscale report {records[0]}")
    return 0


def goals_of(words: Sequence[str]) -> dict[str, Goal]:
    """Workload ("" for all) -> goal, from ``[WORKLOAD:]METRIC=VALUE``.

    Raises:
      ValueError: a word is none of these, or names a workload twice.
    """
    found: dict[str, Goal] = {}
    for word in words:
        workload, _, rest = word.rpartition(":")
        if workload in found:
            raise ValueError(f"--goal names {workload or 'all workloads'} twice, got {word!r}")
        found[workload] = _goal(rest, word)
    return found


def _goal(text: str, word: str) -> Goal:
    from experiments.records.exchange.measurements import METRICS, SPLITS
    from experiments.records.exchange.published import LARGER_IS_BETTER
    from workloads.base import Goal

    name, equals, value = text.partition("=")
    split, slash, metric = name.rpartition("/")
    try:
        number = float(value)
    except ValueError:
        equals = ""
    if not (equals and metric) or split not in ("", "train", "val", "validation"):
        raise ValueError(
            "--goal takes [WORKLOAD:]METRIC=VALUE, such as classification_error=0.25 or "
            f"train/cross_entropy=0.1, got {word!r}"
        )
    del slash
    direction = "max" if metric in LARGER_IS_BETTER else "min"
    metric = METRICS.get(metric, metric)
    return Goal(metric, number, direction, SPLITS.get(split, "validation"))  # type: ignore[arg-type]
