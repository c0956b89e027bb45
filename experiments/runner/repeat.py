"""Trains the best configuration of every batch size again, with fresh seeds.

    from experiments.runner.repeat import repeat_best
    repeat_best("runs/quickstart", seeds=10)

The repeats are a record of their own in the study's folder, of the same form, trained in the same
way: in packs, durable, resumed by the same call. What was chosen is recorded before any of it is
trained; experiments/analysis/repeats.py says what comes of it.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.repeats import CONFIGURATIONS, Configuration, best_configurations
from experiments.analysis.summary import Summary, summarise
from experiments.records.schema import REPEATS_FOLDER
from experiments.records.store import RecordError, Writer, read, require_current
from experiments.runner.known import KnownTrials, final_trials, train_known
from experiments.runner.opening import begun
from experiments.runner.progress import Observer
from experiments.search.repeats import Repeats, fresh_seeds
from experiments.spec.fields import MOST_SEEDS
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import reopened, unpruned
from experiments.training.resume import DEFAULT_MINUTES

PURPOSE = "repeat"


def repeat_best(
    folder: Path | str,
    seeds: int = 10,
    *,
    data_dir: str | None = None,
    keep_going: bool = False,
    checkpoint_minutes: float = DEFAULT_MINUTES,
    observe: Observer = lambda progress: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Path:
    """Train what is missing of ``seeds`` repeats of the best configuration of every batch size.

    Args:
      folder: a study's record. Its best configurations are chosen from what it holds now; where
        they have changed since earlier repeats, the new ones are repeated and the old rows stay.
      seeds: fresh ones for each configuration; more than before adds to those there are.
      data_dir, keep_going, checkpoint_minutes, observe, warn: as of `run_study`.

    Returns:
      The folder of the repeats.

    Raises:
      ValueError: another dataset, or a user's file that has changed.
      RecordError: the record cannot be continued, or holds no trial to choose from.
      StudyError, KeyboardInterrupt: as `run_study`.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise ValueError(f"seeds must lie in 1..{MOST_SEEDS:,}, got {seeds!r}")
    folder = Path(folder)
    record = read(folder)
    require_current(record.study, folder)
    whole = reopened(record.study)
    chosen = _chosen(summarise(record), begun(folder / REPEATS_FOLDER))
    if not chosen:
        raise RecordError(f"{folder} holds no trial yet that could be repeated")
    sizes = tuple(sorted({configuration.batch_size for configuration in chosen}))
    study = unpruned(whole, trials=1, seeds=fresh_seeds(seeds, whole.seeds), batch_sizes=sizes)
    return _trained(study, chosen, folder, data_dir, keep_going=keep_going, observe=observe,
                    checkpoint_minutes=checkpoint_minutes, warn=warn)  # fmt: skip


def _chosen(summary: Summary, before: Mapping[str, Any]) -> list[Configuration]:
    """All configurations that were ever chosen, those of now last."""
    known = [Configuration.from_json(data) for data in before.get(CONFIGURATIONS, [])]
    last = {configuration.batch_size: configuration.key for configuration in known}
    now = best_configurations(summary.view, summary.steps, summary.best)
    return [*known, *(c for c in now if last.get(c.batch_size) != c.key)]


def _trained(
    study: ResolvedStudy,
    chosen: Sequence[Configuration],
    folder: Path,
    data_dir: str | None,
    *,
    keep_going: bool,
    checkpoint_minutes: float,
    observe: Observer,
    warn: Callable[[str], None],
) -> Path:
    place = folder / REPEATS_FOLDER

    def content(record: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "identity": f"{record['identity']}/{PURPOSE}",
            "purpose": PURPOSE,
            CONFIGURATIONS: [dataclasses.asdict(configuration) for configuration in chosen],
        }

    def repeats(checksum: str, writer: Writer) -> list[Repeats]:
        return _repeats(study, chosen, checksum, writer)

    return train_known(
        KnownTrials(study, folder, place, repeats, content),
        data_dir=data_dir,
        keep_going=keep_going,
        checkpoint_minutes=checkpoint_minutes,
        observe=observe,
        warn=warn,
    )


def _repeats(
    study: ResolvedStudy, chosen: Sequence[Configuration], checksum: str, writer: Writer
) -> list[Repeats]:
    """One for each fresh seed, with what is recorded already."""
    values: dict[int, dict[int, Mapping[str, float]]] = {}
    for configuration in chosen:
        mine = values.setdefault(configuration.batch_size, {})
        mine[len(mine)] = configuration.hyperparameters
    ended = final_trials(writer)
    return [Repeats(study, seed, checksum, values, ended.get(seed, {})) for seed in study.seeds]
