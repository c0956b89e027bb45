"""Fetch Debian's data packages into the user's cache, without root.

    python -m workloads.datasets.fetch      (what `make data` runs)

`apt-get download` into a temporary folder, `dpkg-deb -x`, and what comes out, verified, moves to
``~/.cache/batchscale/datasets`` (XDG_CACHE_HOME is honoured): the four IDX files of
dataset-fashion-mnist, and the text that bible-kjv's program prints.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workloads.datasets import text
from workloads.datasets.base import DataError
from workloads.datasets.cache import cache_folder, write_atomically
from workloads.datasets.fashion_mnist import FASHION_MNIST
from workloads.datasets.idx_images import find_files, read_files

FASHION_MNIST_PACKAGE = "dataset-fashion-mnist"
TEXT_PACKAGES = ("bible-kjv", "bible-kjv-text")


def _run(command: Sequence[str], folder: Path, failure: str) -> bytes:
    """A program's output; DataError with its last line of complaint where it fails."""
    if shutil.which(command[0]) is None:
        raise DataError(f"{failure}: {command[0]} is not on this machine")
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise DataError(f"{failure}: {lines[-1] if lines else f'exit status {done.returncode}'}")
    return done.stdout


def _download(packages: Sequence[str], folder: Path) -> list[Path]:
    """The packages' .deb files in ``folder``; with our own package lists where there are none."""
    names = " and ".join(packages)
    download = ["download", *packages]
    try:
        _run(["apt-get", *download], folder, f"cannot download {names}")
    except DataError:
        own = [
            *("-o", f"Dir::State={folder}/state", "-o", f"Dir::Cache={folder}/cache"),
            *("-o", "APT::Sandbox::User=", "-o", "APT::Update::Error-Mode=any"),
        ]
        (folder / "state/lists/partial").mkdir(parents=True)
        (folder / "cache/archives/partial").mkdir(parents=True)
        failure = f"cannot download {names} (is there a network?)"
        _run(["apt-get", *own, "update"], folder, failure)
        _run(["apt-get", *own, *download], folder, failure)
    return sorted(folder.glob("*.deb"))


def _unpack(package: Path, folder: Path) -> None:
    _run(["dpkg-deb", "-x", str(package), "."], folder, f"{package.name} cannot be unpacked")


def unpack(package: Path, target: Path) -> Path:
    """Take the verified IDX files out of a .deb file into ``target``; returns ``target``."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        _unpack(package, root)
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
        (package,) = _download([FASHION_MNIST_PACKAGE], Path(temporary))
        return unpack(package, target)


def fetch_text() -> Path:
    """The King James Bible's text in the user's cache, fetched where absent.

    Raises:
      DataError: as `fetch_fashion_mnist`, or the text is not the recorded one.
    """
    target = text.cached_bible()
    if target.exists():
        text.verified_bible(target.read_bytes(), str(target))
        return target
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for package in _download(TEXT_PACKAGES, folder):
            _unpack(package, folder)
        failure = f"the program of {TEXT_PACKAGES[0]} does not run here"
        program = [str(folder / "usr/bin/bible"), "-p", str(folder / "usr/lib")]
        content = _run([*program, *text.WHOLE_BIBLE], folder, failure)
    text.verified_bible(content, " and ".join(TEXT_PACKAGES))
    write_atomically(target, lambda file: file.write(content))
    return target


def main() -> int:
    """Fetch both, say where they lie; one line on stderr for each that fails, and status 2."""
    status = 0
    for name, fetch in (("Fashion-MNIST", fetch_fashion_mnist), ("text", fetch_text)):
        try:
            print(f"{name}: {fetch()}")
        except (DataError, OSError) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
