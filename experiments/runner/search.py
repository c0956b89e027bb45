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
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.analysis.search_record import KIND, Searched
from experiments.records.comparisons import check_kind
from experiments.records.files import check_writable
from experiments.records.schema import STUDY_FILE
from experiments.records.store import Writer, read, read_study
from experiments.runner.search_driver import Driver, Question
from experiments.runner.search_models import TRAIN_EVALUATION_EXAMPLES, ModelTrainer, Task
from experiments.runner.search_objectives import TRIALS_FOLDER, ObjectiveTrainer, Trainer
from experiments.runner.search_shown import Shown
from experiments.runtime.compilation import switched
from experiments.runtime.environment import environment
from experiments.runtime.platform import cores
from experiments.runtime.stopping import Stop, deferred
from experiments.search.fidelity import Pruner
from experiments.search.samplers.table import SAMPLERS
from experiments.spec import loading
from experiments.spec.errors import StudyError
from experiments.spec.space import Value, greatest
from experiments.spec.trial import TrialResult
from experiments.spec.user_search import Ranges, UserSearch, goal_of
from experiments.training.feed import ResidentData
from workloads import datasets, get
from workloads.base import Workload
from workloads.datasets.base import Dataset
from workloads.registry import resolve

if TYPE_CHECKING:
    import polars as pl

CLASSIFICATION = "workloads.losses:CLASSIFICATION"


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
      searched: its record, read back.
      folder: where it is.
      best: hyperparameters of the best trial.
      value: its best value.
      trial: its index.
    """

    searched: Searched
    folder: Path
    best: Mapping[str, Value]
    value: float
    trial: int
    _state: Callable[[], Any] = dataclasses.field(repr=False, compare=False)

    @property
    def table(self) -> pl.DataFrame:
        """One row a trial: `experiments.analysis.search_record.Searched.trials`."""
        return self.searched.trials

    @property
    def exhausted(self) -> bool:
        """Whether a finite space had fewer points than trials were asked for."""
        return self.searched.exhausted

    def best_model(self) -> tuple[Any, Any, Any]:
        """(module, params, batch statistics) of the best trial at its best epoch: it is trained
        again to there, to the bit.

        Raises:
          ValueError: the search was over an objective, whose models are its own.
        """
        module, state = self._state()
        return module, state.params, state.model_state


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
) -> Found:
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
) -> Found:
    """Start every trial of a search that ``folder`` does not hold yet.

    Args:
      asked: the question.
      folder: of the record; default ``runs/NAME``.
      data_dir: where the dataset's files are, if not in the usual places.
      resume: False refuses a folder that holds a record.
      workers: trials trained at a time; default: one a core for built modules, else one.
      keep_going: leave out a trial that raises, and go on.
      allow_changed_code: go on with a record begun with another text of the function's file.
      checkpoint_minutes: a built trial that has run so long is saved, then every so many minutes.
      show: print the plan, and every trial beside the best so far.
      warn: takes one line where a checkpoint cannot be used.

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
    with switched(), deferred() as stop:
        task, dataset = _task(asked, data_dir) if asked.build else (None, None)
        pruner = _pruner(asked, task)
        described = _described(asked, pruner, task)
        check_writable(folder)
        check_kind(folder, STUDY_FILE)
        if allow_changed_code and (folder / STUDY_FILE).exists():
            described["code"] = read_study(folder)["study"].get("code", described["code"])
        header = _header(described, asked, dataset)
        trainer = _trainer(asked, task, pruner, folder, 60 * checkpoint_minutes, stop, warn)
        shown = Shown(asked, described) if show else None
        with Writer.open(folder, header, resume=resume) as writer:
            question = _question(asked, pruner, task, described, header["identity"])
            driver = Driver(
                question,
                writer,
                trainer,
                batch_size=asked.batch_size if task else 1,
                keep_going=keep_going,
                ended=_forgetting(trainer, folder),
                shown=(lambda result: None) if shown is None else shown.ended,
                stop=stop,
            )
            before = read(folder)
            driver.take_up(before)
            with shown.live(Searched.of(before)) if shown else contextlib.nullcontext():
                driver.run(workers or (cores() if task else 1))
        shutil.rmtree(folder / TRIALS_FOLDER, ignore_errors=True)
        found = _found(folder, trainer, question, asked.batch_size if task else 1)
        if shown is not None:
            shown.over(found.searched)
        return found


def _task(asked: UserSearch, data_dir: str | None) -> tuple[Task, Dataset]:
    """What all built modules share; refuses what does not fit the data."""
    if asked.data is not None:
        dataset = _arrays(asked.data)
        workload = Workload(
            "arrays", "arrays", "workloads.models.users:numbered", CLASSIFICATION,
            goal_of(asked, None),
        )  # fmt: skip
    else:
        given = asked.workload
        assert given is not None, "it was checked"
        workload = get(given) if isinstance(given, str) else given
        dataset = datasets.load(workload.dataset, data_dir, **workload.dataset_options)
    goal = goal_of(asked, workload)
    examples = dataset.size("train")
    sizes = asked.checked.ranges.get("batch_size")
    largest = asked.batch_size if sizes is None else int(greatest(sizes))
    if largest > examples:
        raise ValueError(f"batch_size must lie in 1..{examples} (the training set), got {largest}")
    data = ResidentData.put(dataset.splits, min(TRAIN_EVALUATION_EXAMPLES, examples))
    resolve(workload.losses)
    return (
        Task(workload, goal, asked.optimizer, asked.schedule, asked.fixed, data, asked.budget),
        dataset,
    )


def _arrays(data: Mapping[str, Any]) -> Dataset:
    """A dataset of a user's arrays."""
    splits = {}
    for split in ("train", "validation"):
        try:
            inputs, targets = map(np.asarray, data[split])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"data must map train and validation to (inputs, labels), got {list(data)!r}"
            ) from error
        if inputs.ndim < 1 or len(inputs) != len(targets) or not len(inputs):
            raise ValueError(
                f"data {split} must hold as many labels as inputs, got {inputs.shape} and "
                f"{targets.shape}"
            )
        splits[split] = {"inputs": inputs, "targets": targets}
    return Dataset("arrays", splits, source="given as arrays")


def _pruner(asked: UserSearch, task: Task | None) -> Pruner:
    """The pruner with its numbers; refuses a search that it cannot serve."""
    direction = task.goal.direction if task else asked.direction
    pruner = Pruner(asked.pruner, asked.budget, asked.eta, direction != "max", asked.rounding)
    pruner.check(_trials(asked, pruner))
    if pruner.at_once and SAMPLERS[asked.sampler].adaptive:
        plain = ", ".join(name for name, row in SAMPLERS.items() if not row.adaptive)
        raise ValueError(
            f"sampler must be one of {plain} with the pruner {asked.pruner}, which compares all "
            f"trials at once, got {asked.sampler!r}"
        )
    return pruner


def _trials(asked: UserSearch, pruner: Pruner) -> int:
    if asked.trials is not None:
        return asked.trials
    return pruner.round_of_brackets if asked.pruner == "hyperband" else 20


def _described(asked: UserSearch, pruner: Pruner, task: Task | None) -> dict[str, Any]:
    """The question as the record holds it, under ``study``."""
    described: dict[str, Any] = {
        "name": asked.name,
        "question": asked.question,
        "expected": asked.expected,
        "kind": KIND,
        "of": "build" if task else "objective",
        "trials": _trials(asked, pruner),
        "seeds": [asked.seed],
        "batch_sizes": [],
        "train_steps": {},
        "space": asked.checked.to_json(),
        "names": list(asked.checked.ranges),
        "sampler": asked.sampler,
        "pruner": {"name": pruner.name, "resource": pruner.resource, "eta": pruner.eta,
                   "rounding": pruner.rounding},
        "patience": asked.patience,
        "min_delta": asked.min_delta,
        "column": task.goal.column if task else f"validation/{asked.metric or 'value'}",
        "direction": "min" if pruner.minimize else "max",
        "unit": asked.unit or ("epochs" if task else "units"),
        "unit_examples": task.data.examples if task else 1,
        "code": loading.code_of_function(asked.build or asked.objective),
    }  # fmt: skip
    if task:
        described |= {
            "workload": {**task.workload.describe(), "model": None, "model_options": {}},
            "optimizer": asked.optimizer,
            "schedule": asked.schedule,
            "fixed": task.numbers(asked.fixed),
            "batch_size": asked.batch_size,
        }
    return described


_MAY_CHANGE = ("name", "question", "expected", "unit", "trials", "batch_sizes", "train_steps")


def _header(
    described: Mapping[str, Any], asked: UserSearch, dataset: Dataset | None
) -> dict[str, Any]:
    """The content of study.json."""
    data = dataset.describe() if dataset else {"name": "none", "checksum": ""}
    fixed = {name: value for name, value in described.items() if name not in _MAY_CHANGE}
    text = json.dumps([fixed, data["checksum"]], sort_keys=True)
    names = [name for name in sorted(asked.checked.ranges) if name != "batch_size"]
    return {
        "identity": hashlib.sha256(text.encode()).hexdigest()[:32],
        "study": dict(described),
        "dataset": data,
        "hyperparameters": names,
        "environment": environment(),
    }


def _question(
    asked: UserSearch,
    pruner: Pruner,
    task: Task | None,
    described: Mapping[str, Any],
    identity: str,
) -> Question:
    units = list(range(1, asked.budget + 1))
    return Question(
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
    )


def _trainer(
    asked: UserSearch,
    task: Task | None,
    pruner: Pruner,
    folder: Path,
    seconds: float,
    stop: Stop,
    warn: Callable[[str], None],
) -> Trainer:
    if task and asked.build:
        return ModelTrainer(asked.build, task, folder=folder, seconds=seconds, stop=stop, warn=warn)
    assert asked.objective is not None, "it was checked"
    column = f"validation/{asked.metric or 'value'}"
    return ObjectiveTrainer(asked.objective, column, 1 if pruner.minimize else -1, folder, stop)


def _forgetting(trainer: Trainer, folder: Path) -> Callable[[TrialResult], None]:
    """What is done once a trial is recorded for good."""

    def ended(result: TrialResult) -> None:
        if isinstance(trainer, ModelTrainer):
            trainer.ended(result)
        else:
            path = folder / TRIALS_FOLDER / str(result.trial.index)
            shutil.rmtree(path, ignore_errors=True)

    return ended


def _found(folder: Path, trainer: Trainer, question: Question, batch_size: int) -> Found:
    searched = Searched.of(read(folder))
    row = searched.best
    if row is None:
        raise StudyError(f"no trial of the search in {folder} has a finite value")
    values = searched.hyperparameters(row)

    def state() -> Any:
        if not isinstance(trainer, ModelTrainer):
            raise ValueError(  # noqa: TRY004 (the search is not one of build)
                "best_model needs a search of build: an objective keeps its own models"
            )
        trial = question.trial(row["trial"], values, int(values.get("batch_size", batch_size)))
        steps = searched.record.scan("evaluations")
        assert steps is not None, "a record always has the table"
        mine = steps.filter(trial=row["trial"]).collect().sort("step")
        column = mine[question.column].to_list()
        at = mine["step"][column.index(row["value"])]
        with switched():
            return trainer.best_state(trial, values, at)

    return Found(searched, folder, values, row["value"], row["trial"], state)
