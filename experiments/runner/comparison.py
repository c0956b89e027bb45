"""Runs the studies of a comparison, one after the other.

from experiments.runner.comparison import run_comparison
from experiments.studies import get
folder = run_comparison(get("optimizers_digits"), "runs/optimizers_digits")
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.records.comparisons import open_comparison
from experiments.runner.progress import Observer
from experiments.runner.study import run_study
from experiments.runtime.stopping import deferred
from experiments.spec.comparison import Comparison
from experiments.spec.fields import StudyFields

Shown = Callable[[StudyFields], contextlib.AbstractContextManager[Observer]]


def run_comparison(
    comparison: Comparison,
    folder: Path | str,
    *,
    resume: bool = True,
    shown: Shown | None = None,
    **options: Any,
) -> Path:
    """Train what ``folder`` does not hold yet of every study, each in a folder of its label.

    Args:
      comparison: the studies.
      folder: their records; made where it does not exist.
      resume: False refuses a folder that holds a comparison.
      shown: study -> a context that gives its observer, e.g. `progress.shown_progress`.
      options: as in `run_study`.

    Returns:
      The folder.

    Raises:
      As `run_study`; studies that are finished keep their records.
    """
    folder = Path(folder)
    with deferred() as stop:
        open_comparison(folder, comparison.describe(), resume)
        stop.check()
    for label, study in comparison.studies.items():
        context = shown(study) if shown else contextlib.nullcontext(lambda progress: None)
        with context as observe:
            run_study(study, folder / label, observe=observe, **options)
    return folder
