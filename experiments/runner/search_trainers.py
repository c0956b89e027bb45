"""Trainers of a search: of an objective, of packs of built models, of Ray tasks of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runner.executors.cluster import Cluster
from experiments.runner.executors.searches import RayTrainer, SearchSetting
from experiments.runner.search_found import AnyTrainer
from experiments.runner.search_models import SearchTask
from experiments.runner.search_objectives import TRIALS_FOLDER, ObjectiveTrainer
from experiments.runner.search_packs import trainer_of
from experiments.runtime.platform import cores
from experiments.runtime.stopping import Stop
from experiments.search.fidelity import Pruner
from experiments.spec.trial import Status, TrialResult
from experiments.spec.user_search import UserSearch


def trainer_for(
    asked: UserSearch,
    task: SearchTask | None,
    pruner: Pruner,
    header: Mapping[str, Any],
    cluster: Cluster | None,
    *,
    folder: Path,
    data_dir: str | None,
    seconds: float,
    stop: Stop,
    warn: Callable[[str], None],
) -> AnyTrainer:
    """The trainer of a search.

    Args:
      header: of the record in ``folder``.
      cluster: `connected`; None: train in this process.
      seconds: after which a built trial is saved.
      stop: what ends the search.
      warn: takes one line where a checkpoint cannot be used.
    """
    if not (task and asked.build):
        assert asked.objective is not None, "it was checked"
        column, sign = f"validation/{asked.metric or 'value'}", 1 if pruner.minimize else -1
        return ObjectiveTrainer(asked.objective, column, sign, folder, stop)
    here = trainer_of(asked, task, folder=folder, seconds=seconds, stop=stop, warn=warn)
    if cluster is None:
        return here
    setting = SearchSetting.of(
        asked,
        header["dataset"]["checksum"],
        data_dir=data_dir,
        record=(str(folder.resolve()), header["identity"]),
        checkpoint_seconds=seconds,
    )
    return RayTrainer(setting, cluster, here, slots=asked.slots, stop=stop, warn=warn)


def workers_of(asked: UserSearch, workers: int | None, trainer: AnyTrainer) -> int:
    """Trials under way at a time: all slots of a pack, else as asked, else one a core."""
    if isinstance(trainer, RayTrainer):
        return trainer.workers
    if asked.slots > 1:
        return asked.slots
    return workers or (cores() if asked.build else 1)


def when_ended(
    trainer: AnyTrainer, folder: Path, recorded: Callable[[Sequence[TrialResult]], None]
) -> Callable[[TrialResult], None]:
    """A function to call once a trial has ended and is recorded."""

    def ended(result: TrialResult) -> None:
        recorded([result])
        if result.status == Status.INCOMPLETE:
            return  # it is tried again
        if not isinstance(trainer, ObjectiveTrainer):
            trainer.ended(result)
        else:
            path = folder / TRIALS_FOLDER / str(result.trial.index)
            shutil.rmtree(path, ignore_errors=True)

    return ended
