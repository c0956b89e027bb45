"""A fixed clipping threshold from the log of an earlier study (Tuning Playbook)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from experiments.analysis.best_hyperparameters import best_trials
from experiments.analysis.question import TRIAL, StudyRecord

PERCENTILE = 90.0
"""The Playbook's; where training is still unstable, a lower one."""


def threshold_from_norms(norms: Sequence[float] | pl.Series, percentile: float) -> float:
    """A percentile of unclipped gradient norms, linear between two of them.

    Norms that are not finite (a diverged step) are left out. Raises ValueError where none is
    left or the percentile is outside [0, 100].
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must lie in [0, 100], got {percentile!r}")
    values = np.asarray(norms, float)
    values = values[np.isfinite(values)]
    if not values.size:
        raise ValueError("norms must hold at least one finite gradient norm, got none")
    return float(np.percentile(values, percentile))


def clip_thresholds(record: StudyRecord, percentile: float = PERCENTILE) -> pl.DataFrame:
    """The threshold that the best trial of each search suggests.

    From the norms of every step where they are recorded, else from those at evaluations, which
    lie closer together early in training. The recorded norm is that before any clipping.

    Columns: ``batch_size, seed, trial, norms`` (how many), ``median``, ``threshold``,
    ``largest``.

    Raises:
      ValueError: no norms are recorded, or as `threshold_from_norms`.
    """
    logged = record.scan("norms")
    if logged is None:
        logged = record.scan("evaluations")
    if logged is None or "gradient_norm" not in logged.collect_schema():
        raise ValueError("the record holds no gradient norms: record_norms of the study was off")
    norm = pl.col("gradient_norm")
    rows = []
    for search in best_trials(record).select(TRIAL).iter_rows(named=True):
        here = logged.filter(**search).filter(norm.is_finite())
        found = here.select("gradient_norm").collect()["gradient_norm"]
        threshold = threshold_from_norms(found, percentile)
        rows.append((*search.values(), len(found), found.median(), threshold, found.max()))
    whole, real = (*TRIAL, "norms"), ("median", "threshold", "largest")
    schema = dict.fromkeys(whole, pl.Int64) | dict.fromkeys(real, pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")
