"""Search over a user's own model or training function: points, early stopping, a record.

    from experiments.runner.search import search
    from experiments.spec.space import Real

    def objective(hyperparameters, budget, report):
        ...  # train for `budget` epochs in all; report(epoch, value) after each

    found = search({"rate": Real(1e-4, 1.0, "log")}, objective=objective, trials=20, budget=9)
    print(found.best, found.value)

The record is written under the rules of a study's (docs/record.md): killed at any moment and
called again, a search goes on with the same points; ``batchscale report`` and ``batchscale
status`` read it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.search_record import Searched
from experiments.records.comparisons import check_kind
from experiments.records.files import check_writable
from experiments.records.schema import STUDY_FILE
from experiments.records.store import Writer, read, read_study
from experiments.runner.executors.cluster import Cluster, connected
from experiments.runner.executors.searches import check_spreads
from experiments.runner.search_asked import described_of, header_of, pruner_of, task_of
from experiments.runner.search_driver import Driver, Limit
from experiments.runner.search_found import AnyTrainer, Models, SearchResult
from experiments.runner.search_inherited import further_of
from experiments.runner.search_known import SearchQuestion
from experiments.runner.search_models import SearchTask
from experiments.runner.search_objectives import TRIALS_FOLDER
from experiments.runner.search_shown import Shown
from experiments.runner.search_trainers import trainer_for, when_ended, workers_of
from experiments.runtime.compilation import switched
from experiments.runtime.stopping import Limited, OutOfTime, Stop, deferred
from experiments.search.fidelity import Pruner
from experiments.spec.errors import StudyError
from experiments.spec.fields import MOST_TRIALS
from experiments.spec.trial import TrialResult
from experiments.spec.user_search import Ranges, UserSearch


def search(
    space: Ranges,
    *,
    folder: Path | str | None = None,
    data_dir: str | None = None,
    workers: int | None = None,
    keep_going: bool = False,
    allow_changed_code: bool = False,
    checkpoint_minutes: float = 5.0,
    show: bool = True,
    warn: Callable[[str], None] = warnings.warn,
    **fields: Any,
) -> SearchResult:
    """Search ``space`` for the best hyperparameters of a user's model or training function.

    Args:
      space, fields: as `experiments.spec.user_search.UserSearch` takes them: ``build`` or
        ``objective``, ``trials``, ``budget``, ``sampler``, ``pruner``, ``patience``, ...
      folder, data_dir, workers, keep_going, allow_changed_code, checkpoint_minutes, show, warn: as
        `run_search`.

    Raises:
      as `run_search`.
    """
    return run_search(
        UserSearch(space, **fields),
        folder,
        data_dir=data_dir,
        workers=workers,
        keep_going=keep_going,
        allow_changed_code=allow_changed_code,
        checkpoint_minutes=checkpoint_minutes,
        show=show,
        warn=warn,
    )


def run_search(
    asked: UserSearch,
    folder: Path | str | None = None,
    *,
    data_dir: str | None = None,
    resume: bool = True,
    workers: int | None = None,
    keep_going: bool = False,
    allow_changed_code: bool = False,
    checkpoint_minutes: float = 5.0,
    show: bool = True,
    warn: Callable[[str], None] = warnings.warn,
    limit: Limit | None = None,
    cluster: Cluster | None = None,
    recorded: Callable[[Sequence[TrialResult]], None] = lambda results: None,
) -> SearchResult:
    """Start every trial of a search that ``folder`` does not hold yet.

    Args:
      asked: the question.
      folder: of the record; default ``runs/NAME``.
      data_dir: where the dataset's files are, if not in the usual places.
      resume: False refuses a folder that holds a record.
      workers: trials trained at a time; default: one a core for built modules, else one. A pack's
        slots are filled whatever it is.
      keep_going: leave out a trial that raises, and go on.
      allow_changed_code: go on with a record begun with another text of the function's file.
      checkpoint_minutes: a built trial that has run so long is saved, then every so many minutes.
      show: print the plan, and every trial beside the best so far.
      warn: takes one line where a checkpoint cannot be used.
      limit: ends the search, which then begins one round after the other whatever ``asked.trials``
        says beyond its first.
      cluster: train in Ray tasks there; the record is the same.
      recorded: called with trials that have ended once they are recorded; it must not raise.

    Raises:
      ValueError: bad input, in one line; nothing is written.
      RecordError: the folder cannot be written, or holds another record.
      StudyError: a trial raised, or none has a value; what finished is recorded.
      KeyboardInterrupt: on Ctrl-C or SIGTERM, after what finished was recorded.
    """
    if not checkpoint_minutes > 0:
        raise ValueError(f"checkpoint_minutes must be above 0, got {checkpoint_minutes!r}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers!r}")
    folder = Path("runs") / asked.name if folder is None else Path(folder)
    with contextlib.ExitStack() as within:
        within.enter_context(switched())
        signals = within.enter_context(deferred())
        if cluster is not None:
            check_spreads(asked)
            within.enter_context(connected(cluster))
        stop = signals if limit is None else Limited(signals, limit.over)
        task, dataset = task_of(asked, data_dir) if asked.build else (None, None)
        pruner = pruner_of(asked, task)
        described = described_of(asked, pruner, task)
        check_writable(folder)
        check_kind(folder, STUDY_FILE)
        if allow_changed_code and (folder / STUDY_FILE).exists():
            described["code"] = read_study(folder)["study"].get("code", described["code"])
        header = header_of(described, asked, dataset)
        trainer = trainer_for(
            asked,
            task,
            pruner,
            header,
            cluster,
            folder=folder,
            data_dir=data_dir,
            seconds=60 * checkpoint_minutes,
            stop=stop,
            warn=warn,
        )
        shown = Shown(asked, described, open_ended=limit is not None) if show else None
        question = _question(asked, pruner, task, described, header["identity"])
        if limit is not None:
            question = dataclasses.replace(question, trials=MOST_TRIALS)
        driver = _train(
            question,
            trainer,
            header,
            folder,
            shown,
            resume=resume,
            keep_going=keep_going,
            workers=workers_of(asked, workers, trainer),
            stop=stop,
            limit=limit,
            recorded=recorded,
        )
        found = _found(folder, trainer, driver)
        if shown is not None:
            shown.over(found.searched)
        return found


def _train(
    question: SearchQuestion,
    trainer: AnyTrainer,
    header: Mapping[str, Any],
    folder: Path,
    shown: Shown | None,
    *,
    resume: bool,
    keep_going: bool,
    workers: int,
    stop: Stop,
    limit: Limit | None,
    recorded: Callable[[Sequence[TrialResult]], None],
) -> Driver:
    """Take up what is recorded, and train to the end or until the time is over."""
    with Writer.open(folder, header, resume=resume) as writer:
        driver = Driver(
            question,
            writer,
            trainer,
            keep_going=keep_going,
            ended=when_ended(trainer, folder, recorded),
            shown=(lambda result: None) if shown is None else shown.ended,
            stop=stop,
            limit=limit,
        )
        before = read(folder)
        driver.take_up(before)
        live = shown.live(Searched.of(before)) if shown else contextlib.nullcontext()
        with live, contextlib.suppress(OutOfTime):
            driver.run(workers)
    shutil.rmtree(folder / TRIALS_FOLDER, ignore_errors=True)
    return driver


def _question(
    asked: UserSearch,
    pruner: Pruner,
    task: SearchTask | None,
    described: Mapping[str, Any],
    identity: str,
) -> SearchQuestion:
    units = list(range(1, asked.budget + 1))
    return SearchQuestion(
        asked.checked,
        described["trials"],
        asked.sampler,
        asked.seed,
        pruner,
        asked.patience,
        asked.min_delta,
        described["column"],
        task.grid if task else (lambda batch_size: units),
        identity,
        asked.batch_size if task else 1,
        asked.proposer,
        further_of(asked.proposer),
        asked.coordinates,
    )


def _found(folder: Path, trainer: AnyTrainer, driver: Driver) -> SearchResult:
    searched = Searched.of(read(folder))
    row = searched.best
    if row is None:
        raise StudyError(f"no trial of the search in {folder} has a finite value")
    values = searched.hyperparameters(row)
    models = Models(searched, trainer, driver)
    return SearchResult(searched, folder, values, row["value"], row["trial"], models)
