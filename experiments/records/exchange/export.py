"""From a record to the layout of the published archive, streamed.

A record that was imported gives back what was read: its study files as they stood, and every
trial's metadata and measurements. A record of ours gives what the layout holds, and a README.md
that says what it does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.records.exchange.layout import (
    INTERNAL,
    MEASUREMENTS,
    METADATA,
    STATUSES,
    STUDY,
)
from experiments.records.exchange.measurements import ours, theirs
from experiments.records.exchange.parameters import config
from experiments.records.exchange.staging import new_folder
from experiments.records.files import RecordError
from experiments.records.reader import Record, read
from experiments.records.tables import TRIAL_KEY
from experiments.spec import space as spaces

if TYPE_CHECKING:
    import polars as pl

MOST_ROWS = 500_000
"""Of measurements in memory at a time, unless one trial has more."""
STOPPED = "STOPPED"
_BACK = {"nesterov": "nesterov_momentum"}
_RACED = (
    "The search stopped trials that were behind. A STOPPED trial is COMPLETE here, and "
    "`train_steps` is 0, as for trials with a time budget: which trials were stopped can no longer "
    "be seen. Steps to result are asked for among the first N COMPLETE trials, stopped ones among "
    "them. Do not ask for the best value under a budget of steps or epochs: a stopped trial might "
    "have been the best later."
)
_PRUNED = (
    "The search pruned trials that were behind: they are INCOMPLETE here, and only those that it "
    "let train to their end are COMPLETE. N counted the trials that were started."
)
_COUNTED = (
    "- that a trial counts which diverged after it had passed the goal, or after the race would "
    "have ended it: it is INFEASIBLE here, so fewer trials count and steps to result may be more."
)
_NEEDED = ("workload", "optimizer", "space", "train_steps")


def export_batch_science(folder: Path, out: Path) -> Path:
    """Write the record in ``folder`` as dataset/model/optimizer/batch_size/... below ``out``.

    With several seeds every search is an archive of its own, ``out/seed_S``.

    Raises:
      RecordError: there is no readable record, it holds what the layout cannot, or ``out`` exists
        or cannot be written; ``out`` is not made then.
    """
    record = read(folder)
    if record.trials.is_empty():
        raise RecordError(f"no trial is recorded yet in {folder}")
    described = _Imported(record) if "imported" in record.study else _Own(record, folder)
    seeds = record.trials["seed"].unique().sort().to_list()
    with new_folder(out) as building:
        for seed in seeds:
            base = building / f"seed_{seed}" if len(seeds) > 1 else building
            _write_search(record, seed, described, base / described.path)
        if text := described.readme():
            (building / "README.md").write_text(text)
    return out


class _Imported:
    """The archive of an imported record, as the record describes it."""

    def __init__(self, record: Record) -> None:
        imported = record.study["imported"]
        self.path: str = imported["path"]
        self.studies: Mapping[str, Any] = imported["studies"]
        self.headers: Mapping[str, Any] = imported["columns"]

    def study(self, batch_size: int) -> Mapping[str, Any]:
        """study.json of a batch size."""
        found: Mapping[str, Any] = self.studies[str(batch_size)]
        return found

    def columns(self, batch_size: int) -> dict[str, str]:
        """Column of the archive -> column of the record, in the order of the archive."""
        header = self.headers[str(batch_size)]
        return {name: ours(name) for name in header if name != "step"}

    def status(self, recorded: str) -> str:
        """Status of a trial in the archive."""
        return recorded

    def readme(self) -> str:
        """Nothing was lost that would have to be said."""
        return ""


class _Own:
    """A record of ours, as far as the layout can say it."""

    def __init__(self, record: Record, folder: Path) -> None:
        study = record.study["study"]
        if missing := [name for name in _NEEDED if name not in study]:
            raise RecordError(f"study.json of {folder} lacks the field {missing[0]!r}")
        if study.get("batch_size_schedule", "constant") != "constant":
            raise RecordError(
                f"the batch of {folder} grows within a trial, which the layout cannot say"
            )
        self.fields = study
        self.pruned = study.get("pruner", "none") != "none"
        self.raced = STOPPED in record.trials["status"].to_list() and not self.pruned
        diverged = "INFEASIBLE" in record.trials["status"].to_list()
        self.counted = study.get("stop", "never") != "never" and diverged
        unknown = sorted({*record.trials["status"]} - {*STATUSES, STOPPED})
        if unknown:
            raise RecordError(f"the layout has no status {unknown[0]} (trials of {folder})")
        optimizer = _BACK.get(study["optimizer"], study["optimizer"])
        self.names = (study["workload"]["dataset"], study["workload"]["name"], optimizer)
        self.path = "/".join(name.replace("/", "_") for name in self.names)
        searched = {name: spaces.from_json(found) for name, found in study["space"].items()}
        self.configs = {name: config(found) for name, found in sorted(searched.items())}
        rows = record.scan("evaluations")
        assert rows is not None, "a record always has the table"
        held = rows.collect_schema().names()
        named = {column: theirs(column) for column in held}
        self.kept = {name: column for column, name in named.items() if name}
        split_metric = [column for column, name in named.items() if "/" in column and not name]
        self.left_out = [name for name in held if name not in (*TRIAL_KEY, "step", "examples")]
        self.left_out = [n for n in self.left_out if n not in self.kept.values()]
        if not self.kept:
            raise RecordError(f"{folder} measures nothing the layout holds, only {split_metric}")

    def study(self, batch_size: int) -> Mapping[str, Any]:
        """study.json of a batch size; a raced study has no length that COMPLETE trials reach."""
        dataset, model, optimizer = self.names
        length = self.fields["train_steps"].get(str(batch_size))
        return {
            "batch_size": batch_size,
            "dataset": dataset,
            "early_stopping": self.raced,
            "model": model,
            "optimizer": optimizer,
            "parameter_configs": self.configs,
            "train_steps": 0 if self.raced or length is None else length,
        }

    def columns(self, batch_size: int) -> dict[str, str]:
        """Column of the archive -> column of the record."""
        del batch_size
        return self.kept

    def status(self, recorded: str) -> str:
        """STOPPED is COMPLETE: with train_steps 0 every trial that did not diverge is; a pruned one
        is INCOMPLETE."""
        if recorded != STOPPED:
            return recorded
        return "INCOMPLETE" if self.pruned else "COMPLETE"

    def readme(self) -> str:
        """List what the layout does not hold of this record."""
        lines = [
            f"# {self.fields.get('name', 'A study')}, in the layout of Shallue et al. (2019)",
            "",
            "Written by `batchscale export --to batch_science`. Not in this layout:",
            "",
            "- the goal, the number of trials planned, the schedule and other parts of the study;",
            "- its environment and plans, and the seconds, messages and norms of its trials;",
            "- a trial's search and its order of drawing, beyond its id.",
        ]
        if self.left_out:
            lines.append(f"- the columns {', '.join(self.left_out)} of the measurements.")
        if self.counted:
            lines.append(_COUNTED)
        if any(found.get("type") == "DOUBLE" and not found["scale"]
               for found in self.configs.values()):  # fmt: skip
            lines.append("- that a range without a scale is zero, or a log range above it.")
        if self.raced:
            lines += ["", "## No budget questions", "", _RACED]
        if self.pruned:
            lines += ["", "## Pruned trials", "", _PRUNED]
        return "\n".join(lines) + "\n"


def _write_search(record: Record, seed: int, described: _Imported | _Own, folder: Path) -> None:
    """The studies of one search, one a batch size."""
    import polars as pl

    trials = record.trials.filter(seed=seed)
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    rows = rows.filter(pl.col("seed") == seed)
    counts = rows.group_by("batch_size", "trial").len().collect(engine="streaming")
    trials = trials.join(counts, on=["batch_size", "trial"], how="left").sort("batch_size", "trial")
    # A diagonal scan reads every part's index for every piece: pieces are few and large.
    for piece in _pieces(trials):
        size, first, last = piece["batch_size"][0], piece["trial"][0], piece["trial"][-1]
        here = folder / str(size)
        if not here.exists():
            here.mkdir(parents=True)
            _write_json(here / STUDY, described.study(size))
        found = rows.filter(batch_size=size).filter(pl.col("trial").is_between(first, last))
        _write_piece(record, piece, found.collect(), described, here)


def _pieces(trials: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Runs of trials of one batch size with at most `MOST_ROWS` measurements."""
    import polars as pl

    for same in trials.partition_by("batch_size", maintain_order=True):
        at = pl.col("len").fill_null(0).cum_sum() // MOST_ROWS
        yield from same.with_columns(piece=at).partition_by("piece", maintain_order=True)


def _write_piece(
    record: Record,
    trials: pl.DataFrame,
    rows: pl.DataFrame,
    described: _Imported | _Own,
    folder: Path,
) -> None:
    """Folders of these trials."""
    import polars as pl

    columns = described.columns(trials["batch_size"][0])
    table = rows.select(
        "trial",
        "step",
        *(
            (pl.col(held) if held in rows.columns else pl.lit(None, pl.Float64)).alias(name)
            for name, held in columns.items()
        ),
    ).sort("trial", "step", maintain_order=True)
    parts = table.partition_by("trial", as_dict=True, include_key=False)
    names = [name for name in record.study.get("hyperparameters", ()) if name in trials.columns]
    whole = {
        name
        for name, found in described.study(trials["batch_size"][0])["parameter_configs"].items()
        if found["type"] == "INTEGER"
    }
    for row in trials.iter_rows(named=True):
        here = folder / str(row["trial"])
        here.mkdir()
        held = {name: row[name] for name in names if row[name] is not None}
        parameters = {
            name: int(value) if name in whole and float(value).is_integer() else value
            for name, value in held.items()
        }
        metadata = {
            **{name: row[name] for name in INTERNAL if row.get(name) is not None},
            "parameters": parameters,
            "status": described.status(row["status"]),
            "steps": row["steps"],
            "trial_id": row["trial"],
        }
        _write_json(here / METADATA, metadata)
        parts.get((row["trial"],), table.clear().drop("trial")).write_csv(here / MEASUREMENTS)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
