"""The plan of an automl: how much a trial is, decided before the first one and recorded.

Of a budget in time some batch sizes of the largest net are measured, and their memory is predicted
from the compiled programs. Of a budget in trials nothing is measured, so that the same command does
the same on every machine.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.planning.feasibility import predict, step_seconds
from experiments.procedures.automl.clock import Clock
from experiments.procedures.automl.data import Examples
from experiments.procedures.budget import Budget
from experiments.runner.predict import module_of
from experiments.runner.search_models import SearchTask
from experiments.runtime.memory import device_bytes
from experiments.search.fidelity import Pruner
from experiments.spec.families import ETA, PRESETS, Preset, largest_values
from experiments.spec.trial import Trial

ENOUGH_EPOCHS, LEAST_EXAMPLES = 9, 2000
"""Of a full trial: below, a training split of more examples is cut, down to so many."""
UPDATES_AN_EPOCH = 16
"""At least: a larger batch leaves too few updates in so many epochs."""
MEAN_NET = 0.5
"""Mean price of a net over that of the largest: half of the points have another family or no hidden
layer. A search ends with its time, whatever its nets cost."""
HALF = 0.5
"""Of the best throughput. A smaller batch loses time to dispatch, a larger one updates."""
MEASURED = {"quick": (32, 128), "usual": (32, 128, 512), "long": (32, 128, 512)}
"""Level -> batch sizes."""


@dataclasses.dataclass(frozen=True)
class AutomlPlan:
    """The numbers that an automl trains with.

    Attributes:
      level: of the preset.
      batch_size: of every trial.
      epochs: R, of a full trial.
      reason: why, in words.
      step_seconds: of the largest net at that batch size; 0 where it was not measured.
      compile_seconds: of its programs; 0 likewise.
      rows: what was measured, one a batch size.
      bytes: memory predicted of one trial with the data, 0 where it was not.
      train_examples: of the training split that are trained on; 0: all.
    """

    level: str
    batch_size: int
    epochs: int
    reason: str
    step_seconds: float = 0.0
    compile_seconds: float = 0.0
    rows: Sequence[Mapping[str, float]] = ()
    bytes: int = 0
    train_examples: int = 0

    @property
    def preset(self) -> Preset:
        """The preset of its level."""
        return next(preset for preset in PRESETS if preset.level == self.level)

    def epoch_seconds(self, examples: int) -> float:
        """Seconds of an epoch of the largest net."""
        return self.step_seconds * -(-examples // self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**dataclasses.asdict(self), "rows": [dict(row) for row in self.rows]}


def pruner(epochs: int) -> Pruner:
    """Hyperband's brackets up to so many epochs."""
    return Pruner("hyperband", epochs, ETA)


def first_bracket(epochs: int) -> int:
    """Trials of the first round."""
    return pruner(epochs).following(0, 0, 1 << 30)


def trials_of_round(epochs: int) -> int:
    """Trials of all brackets of Hyperband, each once."""
    return pruner(epochs).round_of_brackets


def round_epochs(epochs: int) -> int:
    """Epochs of all brackets of Hyperband, each once."""
    found, each = pruner(epochs), pruner(epochs).round_of_brackets
    return sum(found.cost(number, size) for number, size in enumerate(found.sizes(each)))


def powers(most: int) -> list[int]:
    """Of `ETA`, up to ``most``, the largest first."""
    found = [1]
    while found[0] * ETA <= most:
        found.insert(0, found[0] * ETA)
    return found


def planned(examples: Examples, budget: Budget) -> AutomlPlan:
    """The plan of a budget in trials: nothing is measured."""
    assert budget.amount is not None, "it was checked"
    trials = int(budget.amount)
    preset = next(p for p in reversed(PRESETS) if p.least_trials <= trials)
    size = bounded(examples.size("train") // 32, examples.size("train"), 128)
    fitting = [r for r in powers(preset.most_epochs) if first_bracket(r) <= trials]
    return AutomlPlan(
        preset.level, size, fitting[0],
        f"batch size {size}: a 32nd of the training set, as the budget counts trials and not time; "
        f"{fitting[0]} epochs: the longest whose first bracket is at most {trials} trials",
    )  # fmt: skip


def bounded(size: int, examples: int, most: int = 1 << 20) -> int:
    """The largest power of two up to ``size`` that leaves `UPDATES_AN_EPOCH` updates, or 1."""
    most = max(1, min(size, examples // UPDATES_AN_EPOCH, most))
    return 1 << (most.bit_length() - 1)


def measured(
    examples: Examples, preset: Preset, task: SearchTask, clock: Clock, allowed: float
) -> AutomlPlan:
    """The plan of a budget in time, but for its epochs, of which it knows the price of one.

    Of the sizes that are measured one is taken, so that its programs are compiled by then.

    Args:
      examples, preset: what is searched on what.
      task: as the search trains it.
      clock: counts seconds.
      allowed: a further size is measured until so many are over.

    Raises:
      ValueError: not even the smallest measured batch fits in memory.
    """
    train = examples.size("train")
    values = largest_values(preset, examples.shape)
    module = module_of(values, len(examples.classes), examples.nets)
    program, numbers = task.program(module, values), task.numbers({"learning_rate": 1e-6})
    room, where = device_bytes()
    rows: list[dict[str, float]] = []
    first = clock()
    for size in sorted({bounded(size, train) for size in MEASURED[preset.level]}):
        if rows and clock() - first > allowed:
            break
        trial = Trial(size, 0, 0, 1_000_000, numbers, "")
        began = clock()
        found, _ = step_seconds(program, [trial])
        seconds = statistics.median(found)
        compiling = clock() - began
        needed = predict(program, trial)
        memory = needed.resident_bytes + needed.program_bytes
        if needed.program_bytes > room:
            break
        row = {"batch_size": size, "seconds_per_step": seconds, "bytes": memory}
        rows.append({**row, "examples_per_second": size / seconds, "compile_seconds": compiling})
    if not rows:
        raise ValueError(f"a trial needs {memory:,} bytes of memory, {where} has {room:,}")
    best = max(row["examples_per_second"] for row in rows)
    taken = next(row for row in rows if row["examples_per_second"] >= HALF * best)
    rates = ", ".join(
        f"{row['examples_per_second']:,.0f} examples/s at {row['batch_size']}" for row in rows
    )
    size = int(taken["batch_size"])
    words = (
        f"batch size {size}: the smallest with half of the best throughput ({rates}), "
        f"{taken['bytes'] / 1e6:.0f} MB of {room / 1e9:.1f} GB"
    )
    return AutomlPlan(
        preset.level, size, 1, words, taken["seconds_per_step"], taken["compile_seconds"], rows,
        int(taken["bytes"]),
    )  # fmt: skip


def affordable(plan: AutomlPlan, examples: int, seconds: float) -> AutomlPlan | None:
    """The plan with the epochs that the time holds; where these are too few of a large training
    split, with fewer of its examples and the more epochs.

    Args:
      plan: as it was measured.
      examples: of the training split.
      seconds: of training.

    Returns:
      None where not all brackets of one epoch fit.
    """
    found = with_epochs(plan, examples, seconds)
    enough = found is not None and found.epochs >= ENOUGH_EPOCHS
    if enough or examples <= LEAST_EXAMPLES:
        return found
    steps = int(max(0.0, seconds) / (round_epochs(ENOUGH_EPOCHS) * MEAN_NET * plan.step_seconds))
    few = max(LEAST_EXAMPLES, steps * plan.batch_size)
    if few >= examples:
        return found
    words = f"{plan.reason}; {few:,} of {examples:,} training examples, so that more epochs fit"
    fewer = dataclasses.replace(plan, train_examples=few, reason=words)
    return with_epochs(fewer, few, seconds)


def with_epochs(plan: AutomlPlan, examples: int, seconds: float) -> AutomlPlan | None:
    """The plan with the most epochs of which Hyperband's brackets, each once, fit into the time;
    None where one trial of one epoch does not."""
    each = MEAN_NET * plan.epoch_seconds(examples)
    for epochs in powers(plan.preset.most_epochs):
        if round_epochs(epochs) * each <= seconds:
            words = (
                f"{plan.reason}; {epochs} epochs: the most of which all brackets, "
                f"{round_epochs(epochs):,} epochs of {each:.2g} s in the mean, fit into "
                f"{seconds:.0f} s"
            )
            return dataclasses.replace(plan, epochs=epochs, reason=words)
    return None
