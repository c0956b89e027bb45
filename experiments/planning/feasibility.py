"""Memory and speed of a batch size: predicted from its programs, then measured.

Run in processes of their own (experiments/planning/child.py), so that a batch size that is too
large ends nothing else.
"""

from __future__ import annotations

import dataclasses
import gc
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runtime.platform import process_bytes, reset_peak
from experiments.spec.errors import StudyError
from experiments.spec.trial import Trial
from experiments.training.layout import SCAN, Execution, Layout
from experiments.training.lowering import lowered, window_bytes
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.slots import Chunk

CPU_SCRATCH = 1 / 8
"""On a CPU: what kernels allocate for themselves, over the program's buffers. XLA does not know
of it; 0 to 25 % was measured (benchmarks/results/plan_memory.json)."""
VERIFIED_STEPS = 3
MEASURED_SECONDS = 0.6
LEAST_CHUNKS = 4
MakeTrial = Callable[[int, int], Trial]


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Of one pack, by its compiled programs; nothing was run.

    Attributes:
      resident_bytes: the dataset, which all packs share.
      program_bytes: arguments + outputs + temporaries - aliased of the larger of the two programs
        (start a trial; train and evaluate), without the dataset; on a CPU with `CPU_SCRATCH`.
      flops: floating-point operations of one step of all slots.
      evaluation_batch: examples that are evaluated at a time.
    """

    resident_bytes: int
    program_bytes: int
    flops: float
    evaluation_batch: int


def smallest(layout: Layout) -> Execution:
    """The smallest pack of a layout: one trial, or one for each group of devices."""
    return Execution("packed" if layout.trials > 1 else "scan", layout.trials, layout)


def predict(program: Program, trial: Trial, execution: Execution | None = None) -> Predicted:
    """Predict the memory and the operations of a pack of trials like ``trial``, by default the
    smallest pack; per device if it uses several."""
    execution = execution or smallest(program.layout)
    execution = program.planned(execution, trial.batch_size, trial.hyperparameters)
    resident, needs = resident_bytes(program, execution), []
    names: tuple[Literal["start", "chunk"], ...] = ("start", "chunk")
    for name in names:
        found: Any = lowered(program, trial, execution, name).compile().memory_analysis()
        needs.append(
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            + found.temp_size_in_bytes
            - found.alias_size_in_bytes
        )
    # The program that starts a trial takes no evaluation data.
    needs[0] -= resident - _evaluation_bytes(program, execution)
    # The window of the chunk that is dispatched ahead lies beside that of the chunk under way.
    needs[1] += window_bytes(program, trial, execution) - resident
    scratch = CPU_SCRATCH if jax.default_backend() == "cpu" else 0.0
    flops = step_flops(program, trial, execution)
    batch = execution.evaluation_batch
    assert batch is not None
    return Predicted(resident, round(max(needs) * (1 + scratch)), flops, batch)


def step_flops(program: Program, trial: Trial, execution: Execution | None = None) -> float:
    """Floating-point operations of a step of all slots, by XLA's cost analysis; not compiled."""
    step = lowered(program, trial, execution or smallest(program.layout), "step")
    return max(0.0, float((step.cost_analysis() or {}).get("flops", 0.0)))


def resident_bytes(program: Program, execution: Execution) -> int:
    """Of the dataset on the device, without what is streamed; ``execution`` as
    `Program.planned` returns it."""
    train = program.train if program.stored is None else ()
    return _bytes(train) + _evaluation_bytes(program, execution)


def _evaluation_bytes(program: Program, execution: Execution) -> int:
    assert execution.evaluation_batch is not None
    return _bytes(program.evaluation(execution.evaluation_batch))


def step_traffic(program: Program, trial: Trial) -> float:
    """Bytes that the compiled step of one trial reads and writes, by XLA's cost analysis."""
    step = lowered(program, trial, smallest(program.layout), "step")
    return float((step.compile().cost_analysis() or {}).get("bytes accessed", 0.0))


def peak_bytes(program: Program, make_trial: MakeTrial, batch_size: int, workers: int) -> int:
    """Train a few steps, ``workers`` trials at a time; the most memory that took.

    An accelerator's allocator knows its peak. On a CPU it is the growth of the process's resident
    set to its peak (reset beforehand, where the system can) in a second run: the first one
    compiles, and what it leaves is given back to the system. The dataset is counted in.
    """
    few_steps(program, make_trial, batch_size, workers)
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    gc.collect()
    reset_peak()
    before = process_bytes("resident")
    few_steps(program, make_trial, batch_size, workers)
    trial, execution = make_trial(batch_size, 0), smallest(program.layout)
    execution = program.planned(execution, batch_size, trial.hyperparameters)
    return process_bytes("peak") - before + resident_bytes(program, execution)


def few_steps(program: Program, make_trial: MakeTrial, batch_size: int, workers: int) -> None:
    """`VERIFIED_STEPS` steps and evaluations of ``workers`` trials side by side."""
    errors: list[Exception] = []

    def train(worker: int) -> None:
        slots = program.layout.trials
        made = [make_trial(batch_size, worker * slots + i) for i in range(slots)]
        pending = [dataclasses.replace(trial, train_steps=VERIFIED_STEPS) for trial in made]
        try:
            Population(program, batch_size, smallest(program.layout)).run(
                lambda: pending.pop() if pending else None, lambda result: None
            )
        except Exception as error:  # noqa: BLE001 (raised again below)
            errors.append(error)

    threads = [threading.Thread(target=train, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class _Timed(Population):
    """A population that measures what the host takes to prepare a chunk."""

    input_seconds = 0.0

    def _inputs(self, count: int) -> Chunk:
        began = time.perf_counter()
        chunk = super()._inputs(count)
        self.input_seconds += time.perf_counter() - began
        return chunk


def step_seconds(
    program: Program,
    trials: Sequence[Trial],
    execution: Execution = SCAN,
    every: int | None = None,
) -> tuple[list[float], float]:
    """(seconds of a trial-step, one value a chunk; the host's share of them), of one pack alone.

    Args:
      program: the compiled programs.
      trials: without a near end; as many as the pack has slots.
      execution: of the pack.
      every: evaluate after so many steps; None: at the end, which is not waited for.
    """
    population = _Timed(
        program,
        trials[0].batch_size,
        execution,
        grid=lambda n: range(every, n + 1, every) if every else [n],
    )
    pending, found, clock = list(trials), [], [0.0, 0.0]

    def advanced(steps: int) -> bool:
        now = time.perf_counter()
        if clock[0] == 0.0:  # the first chunk compiled
            clock[0], population.input_seconds = now, 0.0
        elif steps:
            found.append((now - clock[1]) / steps)
        clock[1] = now
        return len(found) < LEAST_CHUNKS or now - clock[0] < MEASURED_SECONDS

    population.run(lambda: pending.pop() if pending else None, lambda result: None, advanced)
    if not found:
        raise StudyError(
            f"no step at batch size {trials[0].batch_size} could be timed: its trials end within "
            "the first chunk (a loss that is not finite?)"
        )
    return found, population.input_seconds / (clock[1] - clock[0])


def rates(dtype: str, precision: str) -> dict[str, float]:
    """``flops``: of a square matrix product at the study's precision, per second; ``bytes``: read
    and written per second by adding one to a large array. The best of a few runs each."""
    on_cpu = jax.default_backend() == "cpu"
    side, length = (1024, 1 << 24) if on_cpu else (8192, 1 << 28)
    square = jnp.ones((side, side), dtype)
    product = _best(jax.jit(lambda a: jnp.matmul(a, a, precision=precision)), square)
    line = jnp.ones(length, jnp.float32)
    copied = _best(jax.jit(lambda a: a + 1), line)
    return {"flops": 2 * side**3 / product, "bytes": 2 * line.nbytes / copied}


def _best(function: Callable[..., Any], argument: jax.Array) -> float:
    jax.block_until_ready(function(argument))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(function(argument))
        times.append(time.perf_counter() - began)
    return min(times)


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
