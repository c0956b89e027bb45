"""Language modelling on local text, by characters or by bytes.

Without a file of the user's own the text is the King James Bible of Debian's package
bible-kjv (public domain), 4.4 million characters, as its program prints it, or as `make data` has
put it into the user's cache.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import numpy as np

from workloads.datasets.base import DataError, Dataset
from workloads.datasets.cache import cache_folder
from workloads.registry import unknown_name

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""The characters that have a token, 1, 2, ... in this order; every other one is token 0."""
CLASSES = {"characters": len(ALPHABET) + 1, "bytes": 256}
EVALUATION_SHARE = 0.05
"""Of the windows: so many, from the end, test, and as many before them validate."""
SEQUENCE_LENGTH = 64
WHOLE_BIBLE = ("-f", "gen1:1-rev22:21")
"""What the program ``bible`` is asked for: every verse on a line of its own, with its reference."""
BIBLE_SHA256 = "cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d"


def tokenise(content: bytes, tokens: Literal["characters", "bytes"], name: str) -> np.ndarray:
    """[length] uint8 tokens of a text.

    Raises:
      DataError: characters of a text that is not UTF-8.
      UnknownNameError: tokens that are neither characters nor bytes.
    """
    if tokens not in CLASSES:
        raise unknown_name("tokens", tokens, CLASSES)
    if tokens == "bytes":
        return np.frombuffer(content, np.uint8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: not UTF-8 at byte {error.start}, expected UTF-8 text (or tokens = bytes)"
        ) from error
    token_of = np.zeros(0x110000, np.uint8)
    token_of[[ord(character) for character in ALPHABET]] = np.arange(1, len(ALPHABET) + 1)
    return token_of[np.frombuffer(text.encode("utf-32-le"), "<u4")]


def windows(tokens: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Consecutive windows that share no target: inputs [n, length] and, one on, targets."""
    count = (len(tokens) - 1) // length
    return {
        "inputs": tokens[: count * length].reshape(count, length),
        "targets": tokens[1 : count * length + 1].reshape(count, length),
    }


def _read_path(path: Path) -> tuple[bytes, str]:
    """A file, or the .txt files of a folder in the order of their names."""
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no .txt file in this folder, expected text")
    try:
        return b"\n".join(file.read_bytes() for file in files), str(path)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error


def cached_bible() -> Path:
    """Path of the text that `make data` fetches."""
    return cache_folder() / "text" / "bible-kjv.txt"


def verified_bible(content: bytes, source: str) -> bytes:
    """The same content.

    Raises:
      DataError: it is not the recorded text.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != BIBLE_SHA256:
        raise DataError(f"{source}: sha256 {found[:8]}, expected {BIBLE_SHA256[:8]} (bible-kjv)")
    return content


def read_bible() -> bytes:
    """The King James Bible, from Debian's program or the user's cache.

    Raises:
      DataError: in neither place, or damaged in the cache.
    """
    if shutil.which("bible"):
        done = subprocess.run(["bible", *WHOLE_BIBLE], capture_output=True, check=False)
        if not done.returncode and done.stdout:
            return done.stdout
    if (path := cached_bible()).exists():
        return verified_bible(_read_path(path)[0], str(path))
    raise DataError(
        "text is not on this machine: install Debian's packages bible-kjv and bible-kjv-text, or "
        "run `make data`, or give a text file or a folder of .txt files with --data-dir"
    )


def load(
    *,
    data_dir: str | None = None,
    tokens: Literal["characters", "bytes"] = "characters",
    sequence_length: int = SEQUENCE_LENGTH,
) -> Dataset:
    """Windows of a text: inputs and targets [n, sequence_length] uint8.

    The splits are contiguous (train, then validation, then test), so that no sentence is in
    two of them.

    Args:
      data_dir: a text file, or a folder of .txt files; the Bible where None.
      tokens: ``"characters"`` (97 classes) or ``"bytes"`` (256).
      sequence_length: T.

    Raises:
      DataError: no text, not UTF-8, or too short for one window per split.
      ValueError: a sequence length that is not a positive whole number.
    """
    if not isinstance(sequence_length, int) or sequence_length < 1:
        raise ValueError(
            f"sequence_length must be a positive whole number, got {sequence_length!r}"
        )
    if data_dir:
        content, source = _read_path(Path(data_dir).expanduser())
    else:
        content, source = read_bible(), "King James Bible (Debian bible-kjv)"
    all_windows = windows(tokenise(content, tokens, source), sequence_length)
    count = len(all_windows["inputs"])
    evaluation = round(EVALUATION_SHARE * count)
    if evaluation < 1:
        raise DataError(
            f"{source}: {len(content)} bytes of text, expected at least {20 * sequence_length}"
        )
    borders = {
        "train": slice(0, count - 2 * evaluation),
        "validation": slice(count - 2 * evaluation, count - evaluation),
        "test": slice(count - evaluation, count),
    }
    splits = {
        split: {role: array[rows] for role, array in all_windows.items()}
        for split, rows in borders.items()
    }
    return Dataset("text", splits, CLASSES[tokens], source)
