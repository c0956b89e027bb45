"""A Ray task: one pack of trials, trained by whichever worker takes it.

A task is given all it needs: the study, the text of a user's files, how to train, the trials, and
the states of those that were put aside. It may be lost at any moment and run again elsewhere; it
ends with the same bits. The data are loaded where it runs, and must be those of the study.
"""

from __future__ import annotations

import dataclasses
import functools
import pickle
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.records.files import RecordError
from experiments.records.store import read_study
from experiments.runner.executors import Job, Unfinished
from experiments.runtime.compilation import switched
from experiments.runtime.memory import out_of_memory
from experiments.runtime.stopping import Stop
from experiments.spec.errors import StudyError, in_one_line
from experiments.spec.loading import load_text, texts_of_files
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import RecordNorms, Trial, TrialResult
from experiments.training.checkpoint import Saved
from experiments.training.feed import ResidentData
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints
from experiments.training.saving import Key


@dataclasses.dataclass(frozen=True)
class StudySetting:
    """The part of a study that every task is given.

    Attributes:
      study: `ResolvedStudy`, pickled: what it names in a user's files is found once they are
        loaded.
      files: name and text of the user's files.
      checksum: of the dataset.
      record_norms: as the plan says.
      data_dir: where a worker finds the dataset's files, if not in the usual places.
      stream: as `run_study` has it.
      record: absolute path of the record, and its identity: long trials are saved there by a worker
        that finds this record at this path.
      checkpoint_seconds: as `Checkpoints` has it.
    """

    study: bytes
    files: tuple[tuple[str, bytes], ...]
    checksum: str
    record_norms: RecordNorms
    data_dir: str | None
    stream: bool | None
    record: tuple[str, str]
    checkpoint_seconds: float

    @classmethod
    def of(cls, study: ResolvedStudy, checksum: str, **how: Any) -> StudySetting:
        """Of a study in this process."""
        return cls(pickle.dumps(study), texts_of_files(study.code), checksum, **how)


@dataclasses.dataclass(frozen=True)
class PackOutcome:
    """The end of a pack.

    Attributes:
      results: of the trials that ended or were put aside.
      aside: the states of those that were put aside.
      unfinished: the trials under way, where the pack failed.
      error: why it failed.
      warnings: of the checkpoints, a line each.
    """

    results: Sequence[TrialResult]
    aside: Mapping[Key, Saved] = dataclasses.field(default_factory=dict)
    unfinished: Unfinished = dataclasses.field(default_factory=Unfinished)
    error: BaseException | None = None
    warnings: Sequence[str] = ()


def train_pack(
    setting: StudySetting,
    job: Job,
    trials: Sequence[Trial],
    aside: Mapping[Key, Saved] | None = None,
) -> PackOutcome:
    """Train trials of one batch size to their ends, in this process.

    Args:
      setting: of the study.
      job: what they are trained by.
      trials: theirs.
      aside: the states of those among them that were put aside before.
    """
    study = _study(setting)
    results: list[TrialResult] = []
    warnings: list[str] = []
    held = dict(aside or {})
    with switched(study.precision.float64):
        waiting = iter(trials)
        population: Population | None = None
        error: BaseException | None = None
        try:
            population = Population(
                _program(setting),
                job.batch_size,
                job.execution,
                grid=study.grid,
                plan=job.plan,
                checkpoints=_checkpoints(setting, study, warnings.append),
                held=held,
                phases=study.phases(job.batch_size),
            )
            population.run(lambda: next(waiting, None), results.append)
        except Exception as raised:  # noqa: BLE001 (a user's model may raise anything)
            error = portable(raised)
        begun = Unfinished(population.trials if population and error else ())
    return PackOutcome(results, held, begun, error, warnings)


def portable(error: Exception) -> BaseException:
    """An exception that another process can read."""
    if out_of_memory(error):
        return MemoryError(in_one_line(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (a user's class may refuse in any way)
        return StudyError(in_one_line(error))
    return error


def _checkpoints(
    setting: StudySetting, study: ResolvedStudy, warn: Callable[[str], None]
) -> Checkpoints | None:
    """The place where this worker saves long trials; None if it does not see the study's record."""
    if not sees_record(*setting.record):
        return None
    return Checkpoints(Path(setting.record[0]), study.goal, setting.checkpoint_seconds, warn)


@functools.lru_cache(maxsize=4)
def sees_record(folder: str, identity: str) -> bool:
    """Tell whether this machine has the folder, with this record: machines may share it."""
    try:
        return bool(read_study(folder)["identity"] == identity)
    except (OSError, RecordError):
        return False


@functools.lru_cache(maxsize=4)
def _study(setting: StudySetting) -> ResolvedStudy:
    for name, text in setting.files:
        load_text(name, text)
    found = pickle.loads(setting.study)
    assert isinstance(found, ResolvedStudy)
    return found


@functools.lru_cache(maxsize=1)
def _program(setting: StudySetting) -> Program:
    """The study's programs, compiled once a worker; its data are checked and put once."""
    from experiments.runner.planning import programs_of
    from workloads import datasets

    study = _study(setting)
    dataset = datasets.load(
        study.workload.dataset, setting.data_dir, **study.workload.dataset_options
    )
    if dataset.checksum != setting.checksum:
        raise StudyError(
            f"the dataset {dataset.name} of {socket.gethostname()} is another than the study's: "
            f"checksum {dataset.checksum[:12]}, not {setting.checksum[:12]}"
        )
    data = ResidentData.put(dataset.splits, study.train_evaluation_examples, setting.stream)
    return programs_of(study, data, Stop())(setting.record_norms)
