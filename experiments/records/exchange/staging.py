"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiments.records.files import RecordError, check_writable, disk_errors


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target`` that takes its place at the end; removed after an error.

    Raises:
      RecordError: ``target`` is there already and is not an empty folder, or cannot be written.
    """
    if target.is_symlink() or (target.exists() and not (target.is_dir() and _empty(target))):
        raise RecordError(f"the folder {target} already exists: choose another")
    parent = target.absolute().parent
    check_writable(parent)
    with disk_errors(target):
        parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=parent))
        try:
            inside = building / target.name  # made with the usual permissions, unlike `building`
            inside.mkdir()
            yield inside
            os.replace(inside, target)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _empty(folder: Path) -> bool:
    return not any(folder.iterdir())
