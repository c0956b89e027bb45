"""Labelled examples as people have them: a known name, a folder of IDX files, an .npz, a CSV.

    source = read_source("wine.csv", target="cultivar")
    source.inputs       # [n, ...], or column -> [n] of a CSV
    source.targets      # [n], as they were written

What is refused is refused with one line that names the file, the column and the value.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import math
import zipfile
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

import numpy as np

from workloads import datasets
from workloads.datasets.base import DataError, size_of
from workloads.datasets.base import read as read_examples
from workloads.datasets.idx_images import IdxImages, find_files, read_files
from workloads.registry import unknown_name

Inputs = np.ndarray | Mapping[str, np.ndarray]
"""[n, ...], or of a table column -> [n]: float64, or texts."""

NAMES: Mapping[str, tuple[int, ...]] = {
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
    "digits": (8, 8, 1),
    "fashion_mnist": (28, 28, 1),
    "mnist": (28, 28, 1),
}
"""Datasets to be classified, of those known by name -> shape of an example."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled examples.

    Attributes:
      name: how it was called.
      about: in words, for the record.
      inputs: `Inputs`.
      targets: [n] labels.
      test: (inputs, targets) that the source keeps apart for testing; None where it does not.
    """

    name: str
    about: str
    inputs: Inputs
    targets: np.ndarray
    test: tuple[Inputs, np.ndarray] | None = None

    @property
    def checksum(self) -> str:
        """sha256 over names, dtypes, shapes and values of all examples, test included."""
        digest = hashlib.sha256()
        for inputs, targets in ((self.inputs, self.targets), self.test or ({}, np.zeros(0))):
            columns = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
            for name, array in (*columns.items(), ("targets", targets)):
                array = np.ascontiguousarray(array)
                digest.update(f"{name}:{array.dtype.str}{array.shape}".encode())
                digest.update(array.data)
        return digest.hexdigest()


def count(inputs: Inputs) -> int:
    """Number of examples."""
    return len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)


def rows(inputs: Inputs, numbers: np.ndarray) -> Inputs:
    """The examples of these numbers."""
    if isinstance(inputs, Mapping):
        return {name: column[numbers] for name, column in inputs.items()}
    return inputs[numbers]


def read_source(source: str, target: str | None = None, data_dir: str | None = None) -> Source:
    """The examples that ``source`` names, all inputs finite.

    Args:
      source: a name of `NAMES`, or the path of a folder of IDX files, an .npz or a .csv file.
      target: of a CSV, the column to be predicted.
      data_dir: where the files of a name are, if not in the usual places.

    Raises:
      ValueError: an unknown source, a target column that is not there or does not belong there.
      DataError: a file that cannot be read, or inputs that are not finite.
    """
    path = Path(source)
    if source.endswith(".csv"):
        return _finite(_csv(path, target))
    if target is not None:
        raise ValueError(f"--target belongs to a CSV file, got the source {source!r}")
    if source in NAMES and not path.exists():
        return _finite(_named(source, data_dir))
    if path.is_dir():
        return _finite(_idx(path))
    if source.endswith(".npz"):
        return _finite(_npz(path))
    if path.exists() or "/" in source:
        raise ValueError(
            f"source must be a name ({', '.join(NAMES)}), a folder of IDX files, an .npz or a "
            f".csv file, got {source!r}"
        )
    raise unknown_name("source", source, NAMES)


def _named(name: str, data_dir: str | None) -> Source:
    found = datasets.load(name, data_dir)
    every = {split: read_examples(part, np.arange(size_of(part)))
             for split, part in found.splits.items()}  # fmt: skip
    parts = [every["train"], every["validation"]]
    inputs, targets = (np.concatenate([p[role] for p in parts]) for role in ("inputs", "targets"))
    test, shape = every["test"], (-1, *NAMES[name])
    return Source(name, found.source, inputs.reshape(shape), targets,
                  (test["inputs"].reshape(shape), test["targets"]))  # fmt: skip


def _idx(folder: Path) -> Source:
    spec = IdxImages(folder.name, {}, classes=256)
    files = find_files(spec, folder)
    if files is None:
        raise DataError(f"{folder}: has not the four files {', '.join(spec.roles.values())} (.gz)")
    found = read_files(spec, files)
    return Source(
        folder.name, f"IDX files in {folder}", found["train_images"][..., None],
        found["train_labels"], (found["test_images"][..., None], found["test_labels"]),
    )  # fmt: skip


def _npz(path: Path) -> Source:
    try:
        with np.load(path, allow_pickle=False) as held:
            missing = [name for name in ("inputs", "targets") if name not in held]
            if missing:
                raise DataError(
                    f"{path}: has no array {missing[0]!r}, expected inputs and targets (it has "
                    f"{', '.join(held) or 'none'})"
                )
            inputs, targets = held["inputs"], held["targets"]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason})") from error
    if inputs.ndim < 2 or inputs.dtype.kind not in "fiub":
        raise DataError(f"{path}: inputs must be numbers [n, ...], got {inputs.dtype} "
                        f"{list(inputs.shape)}")  # fmt: skip
    if targets.ndim != 1 or len(targets) != len(inputs):
        raise DataError(
            f"{path}: targets must be one label for each of the {len(inputs)} inputs, got "
            f"{list(targets.shape)}"
        )
    return Source(path.stem, f"{path.name}", inputs, targets)


def _csv(path: Path, target: str | None) -> Source:
    columns = read_table(path)
    if target is None or target not in columns:
        raise ValueError(
            f"--target must be a column of {path} ({', '.join(columns)}), got {target!r}"
        )
    targets = columns.pop(target)
    if not columns:
        raise DataError(f"{path}: has no column beside the target {target}")
    return Source(path.stem, f"{path.name}, target {target}", columns, targets)


def read_table(path: Path, texts: Container[str] = ()) -> dict[str, np.ndarray]:
    """Column -> its numbers, or its texts where one is no number or ``texts`` holds its name.

    Raises:
      DataError: a file that cannot be read as a CSV with a line of names, or an empty cell.
    """
    header, body = _lines(path)
    columns = {}
    for place, name in enumerate(header):
        cells = [row[place].strip() for _, row in body]
        empty = next((line for (line, _), text in zip(body, cells, strict=True) if not text), None)
        if empty is not None:
            raise DataError(
                f"{path}: column {name} is empty in line {empty}: fill it, or leave the line out"
            )
        columns[name] = np.array(cells) if name in texts else _numbers(cells)
    return columns


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """(names of the columns, (line number, cells) of every row)."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            found = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    if len(found) < 2:
        raise DataError(f"{path}: must hold a line of names and a line an example")
    header = [name.strip() for name in found[0][1]]
    if len(set(header)) < len(header) or not all(header):
        raise DataError(f"{path}: the columns of its first line must have distinct names, got "
                        f"{', '.join(map(repr, header))}")  # fmt: skip
    for line, cells in found[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{path}: line {line} has {len(cells)} cells, expected {len(header)} as in the "
                "first line"
            )
    return header, found[1:]


def _numbers(texts: list[str]) -> np.ndarray:
    """Numbers where all are; else the texts."""
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return np.array(texts)


def _finite(source: Source) -> Source:
    """Refuse (DataError) examples with an input that is not finite."""
    for inputs, _ in ((source.inputs, source.targets), *([source.test] if source.test else [])):
        if not count(inputs):
            raise DataError(f"{source.name}: holds no example")
        for name, example, value in not_finite(inputs):
            where = f"column {name}" if name else "inputs"
            raise DataError(f"{source.name}: {where} must be finite, got {value} in example "
                            f"{example}")  # fmt: skip
    return source


def not_finite(inputs: Inputs) -> Iterator[tuple[str, int, float]]:
    """(column, "" of an array; number of the example; value) of the first of each column."""
    columns = inputs if isinstance(inputs, Mapping) else {"": inputs}
    for name, array in columns.items():
        if array.dtype.kind != "f":
            continue
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            row = np.asarray(array[bad[0]]).reshape(-1)
            yield name, int(bad[0]), float(next(v for v in row if not math.isfinite(v)))
