"""Trains trials that are known beforehand, of a record, in a record of their own.

    from experiments.runner.known import again, train_known
    train_known(again("runs/quickstart", (64, 0, 3), "runs/norms", record_norms="every"))

`experiments.runner.repeat` trains configurations with fresh seeds so; `again` is one trial as it
was, with something more recorded.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.planning.execution import ExecutionRequest
from experiments.records.files import check_writable
from experiments.records.store import Writer, read_study
from experiments.runner.checks import check_study
from experiments.runner.opening import header
from experiments.runner.planning import end_if_asked
from experiments.runner.progress import Observer, StudyProgress
from experiments.runner.recorded import FINAL
from experiments.runner.recorder import Recorder
from experiments.runner.study import train_unfinished
from experiments.runner.trained import reopen, trial_of
from experiments.runtime.compilation import switched
from experiments.runtime.stopping import deferred
from experiments.search.record import Ended
from experiments.search.repeats import Repeats
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import unpruned
from experiments.training.resume import DEFAULT_MINUTES, Checkpoints
from workloads import datasets


@dataclasses.dataclass(frozen=True)
class KnownTrials:
    """Trials of a record that are known beforehand.

    Attributes:
      study: the question they answer.
      folder: the record they come from.
      place: the folder of their own record.
      sources: (checksum of the dataset, writer there) -> the trials, by seed.
      content: study.json of ``folder`` -> what study.json there has beside `header`.
    """

    study: ResolvedStudy
    folder: Path
    place: Path
    sources: Callable[[str, Writer], Sequence[Repeats]]
    content: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda record: {}


def train_known(
    known: KnownTrials,
    *,
    execution: str = "auto",
    workers: int | None = None,
    data_dir: str | None = None,
    keep_going: bool = False,
    checkpoint_minutes: float = DEFAULT_MINUTES,
    observe: Observer = lambda progress: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Path:
    """Train what is missing of them; the folder of their record.

    Raises:
      ValueError: another dataset than the record's.
      RecordError, StudyError, KeyboardInterrupt: as `run_study`, whose arguments these are.
    """
    study, request = known.study, ExecutionRequest(execution, None, workers)
    check_writable(known.place)
    with switched(study.precision.float64):
        observe(StudyProgress("loading data", checked=False))
        dataset = datasets.load(study.workload.dataset, data_dir, **study.workload.dataset_options)
        record = read_study(known.folder)
        if dataset.checksum != record["dataset"]["checksum"]:
            raise ValueError(
                f"the dataset {dataset.name} is not the one that {known.folder} was trained on"
            )
        content = {**header(study, dataset), **known.content(record)}
        check_study(study, dataset, request, warn)
        with deferred() as stop, Writer.open(known.place, content) as writer:
            checkpoints = Checkpoints(known.place, study.goal, 60 * checkpoint_minutes, warn)
            train_unfinished(
                known.sources(dataset.checksum, writer),
                dataset,
                writer,
                Recorder(writer, checkpoints),
                request=request,
                checkpoints=checkpoints,
                keep_going=keep_going,
                observe=observe,
                stop=stop,
            )
            end_if_asked(stop)
    return known.place


def final_trials(writer: Writer) -> dict[int, dict[tuple[int, int], Ended]]:
    """Seed -> (batch size, index) -> how it ended, of the recorded trials that are not tried
    again."""
    found: dict[int, dict[tuple[int, int], Ended]] = {}
    for (batch_size, seed, index), (status, _) in writer.recorded().items():
        if status in FINAL:
            found.setdefault(seed, {})[batch_size, index] = Ended(status, 0, None, 0)
    return found


def again(
    folder: Path | str, key: tuple[int, int, int], place: Path | str, **changes: Any
) -> KnownTrials:
    """The trial of a record as it was, to its length, with ``changes`` of what is recorded.

    It keeps its index, from which with its seed all that is random derives, and its recorded
    hyperparameters, which are those after a rule. Nothing stops it early.

    Args:
      folder: a study's record.
      key: (batch size, seed, index) of the trial.
      place: of its new record.
      changes: fields of the study that change no result, such as ``record_norms``.

    Raises:
      RecordError: no record there, or one of an older schema.
      ValueError: a user's file that has changed.
    """
    record, whole = reopen(folder)
    batch_size, seed, index = key
    rows = record.trials.filter(batch_size=batch_size, seed=seed, trial=index)
    trial = trial_of(rows.row(0, named=True), record.study["hyperparameters"])
    study = unpruned(
        whole, batch_sizes=(batch_size,), seeds=(seed,), stop="never",
        train_steps={**whole.train_steps, batch_size: trial.train_steps}, **changes,
    )  # fmt: skip

    def sources(checksum: str, writer: Writer) -> list[Repeats]:
        chosen = {batch_size: {index: trial.hyperparameters}}
        return [Repeats(study, seed, checksum, chosen, final_trials(writer).get(seed, {}))]

    return KnownTrials(study, Path(folder), Path(place), sources)
