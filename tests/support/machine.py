"""What some tests need and not every machine has: a browser, two public datasets.

python -m tests.support.machine NAME    exits 0 where it is there
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@functools.cache
def browser_program() -> str | None:
    """Chromium or Chrome: what CHROME_BIN names, or the first one found."""
    if named := os.environ.get("CHROME_BIN"):
        return shutil.which(named)
    found = map(shutil.which, PROGRAMS)
    return next(filter(None, [*found, *filter(os.path.exists, APPLICATIONS)]), None)


@functools.cache
def fashion_mnist_files() -> dict[str, Path] | None:
    """Array name -> IDX file, from Debian's package or the user's cache."""
    from workloads.datasets.cache import cache_folder
    from workloads.datasets.fashion_mnist import FASHION_MNIST
    from workloads.datasets.idx_images import find_files

    places = [*map(Path, FASHION_MNIST.folders), cache_folder() / FASHION_MNIST.name]
    return next(filter(None, (find_files(FASHION_MNIST, place) for place in places)), None)


@functools.cache
def bible_text() -> bytes | None:
    """The whole text, from Debian's program or the user's cache."""
    from workloads.datasets.base import DataError
    from workloads.datasets.text import read_bible

    try:
        return read_bible()
    except DataError:
        return None


NEEDS = {
    "browser": (browser_program, "Chromium or Chrome", "chromium"),
    "fashion_mnist": (fashion_mnist_files, "Fashion-MNIST", "dataset-fashion-mnist"),
    "bible": (bible_text, "the King James Bible", "bible-kjv bible-kjv-text"),
}
"""Name -> (how it is found, or None; what it is; Debian's packages)."""


def lacking(names: Iterable[str]) -> str | None:
    """The first of these names that this machine does not have."""
    return next((name for name in names if NEEDS[name][0]() is None), None)


def closing_line(deselected: Counter[str]) -> str:
    """How many tests did not run, why, and the command that cures it."""
    why = ", ".join(f"{count} need {NEEDS[name][1]}" for name, count in sorted(deselected.items()))
    packages = " ".join(NEEDS[name][2] for name in sorted(deselected))
    cure = f"sudo apt-get install {packages}"
    if set(deselected) == {"browser"}:
        cure += ", or CHROME_BIN=/path/of/chrome make test"
    return f"{deselected.total()} deselected, absent on this machine: {why}. To run them: {cure}"


if __name__ == "__main__":
    sys.exit(lacking(sys.argv[1:]) is not None)
