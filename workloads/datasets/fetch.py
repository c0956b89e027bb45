"""Fetch Debian's package dataset-fashion-mnist into the user's cache, without root.

    python -m workloads.datasets.fetch      (what `make data` runs)

`apt-get download` into a temporary folder, `dpkg-deb -x`, and the four IDX files, verified,
move to ``~/.cache/batchscale/datasets/fashion_mnist`` (XDG_CACHE_HOME is honoured).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from workloads.datasets.base import DataError
from workloads.datasets.cache import cache_folder
from workloads.datasets.fashion_mnist import FASHION_MNIST
from workloads.datasets.idx_images import find_files, read_files

PACKAGE = "dataset-fashion-mnist"


def _run(command: list[str], folder: Path, failure: str) -> None:
    """Run a program quietly; DataError with its last line of complaint where it fails."""
    if shutil.which(command[0]) is None:
        raise DataError(f"{command[0]} is not on this machine (needed to fetch {PACKAGE})")
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise DataError(f"{failure}: {lines[-1]}")


def unpack(package: Path, target: Path) -> Path:
    """Take the verified IDX files out of a .deb file into ``target``; returns ``target``."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        _run(["dpkg-deb", "-x", str(package), "."], root, f"{package.name} cannot be unpacked")
        files = find_files(FASHION_MNIST, root / FASHION_MNIST.folders[0].lstrip("/"))
        if files is None:
            raise DataError(f"{package.name}: the IDX files of fashion_mnist are not in it")
        read_files(FASHION_MNIST, files)
        target.mkdir(parents=True, exist_ok=True)
        for file in files.values():
            # Copied beside, then renamed: a file in the cache is whole.
            partial = target / f".{file.name}.partial"
            shutil.copyfile(file, partial)
            os.replace(partial, target / file.name)
    return target


def fetch_fashion_mnist() -> Path:
    """The folder of Fashion-MNIST's IDX files in the user's cache, fetched where absent.

    Raises:
      DataError: one line naming what is missing (apt-get, dpkg-deb, the network, the package).
    """
    target = cache_folder() / FASHION_MNIST.name
    if files := find_files(FASHION_MNIST, target):
        read_files(FASHION_MNIST, files)
        return target
    with tempfile.TemporaryDirectory() as temporary:
        _run(
            ["apt-get", "download", PACKAGE],
            Path(temporary),
            f"apt-get cannot download {PACKAGE} (is there a network, and a package list?)",
        )
        return unpack(next(Path(temporary).glob("*.deb")), target)


def main() -> int:
    """Fetch, say where the files lie; one line on stderr and status 2 where that fails."""
    try:
        print(f"Fashion-MNIST: {fetch_fashion_mnist()}")
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
