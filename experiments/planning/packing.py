"""One program for a space of architectures, or one for each: measured, and said in words.

The one program computes every operation at every node, and compiles once; a plain program computes
what its architecture has, and each architecture compiles its own. Which is faster depends on the
number of architectures and on the length of a training:

    plain   N (c + T s)            packed   c' + N T s'

with N architectures of T steps, c and c' seconds to compile and s and s' seconds a trial's step.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from experiments.spec.trial import Trial
from experiments.training.layout import Execution
from experiments.training.population import Population
from experiments.training.program import Program

PROBE_STEPS = 64


@dataclasses.dataclass(frozen=True)
class ProgramPace:
    """The pace of a program.

    Attributes:
      compile: seconds until its first steps were made, over those of a second time.
      step: seconds of a trial's step; the trials of a pack share its time.
    """

    compile: float
    step: float


def paced(program: Program, trials: Sequence[Trial], execution: Execution) -> ProgramPace:
    """Train ``trials`` (as many as slots, of `PROBE_STEPS`) twice."""
    spent = []
    for _ in range(2):
        pending = list(trials)
        population = Population(
            program, trials[0].batch_size, execution, grid=lambda steps: [steps]
        )
        began = time.perf_counter()
        population.run(lambda left=pending: left.pop() if left else None, lambda result: None)  # type: ignore[misc]
        spent.append(time.perf_counter() - began)
    steps = sum(trial.train_steps for trial in trials)
    return ProgramPace(max(0.0, spent[0] - spent[1]), spent[1] / steps)


@dataclasses.dataclass(frozen=True)
class Packing:
    """The two ways side by side.

    Attributes:
      plain, packed: their paces.
      architectures, steps: N and T.
      flops: of the one program over those of the mean architecture.
    """

    plain: ProgramPace
    packed: ProgramPace
    architectures: int
    steps: int
    flops: float

    @property
    def seconds(self) -> tuple[float, float]:
        """(plain, packed) of the whole search, on one core of work at a time."""
        count, steps = self.architectures, self.steps
        one = count * (self.plain.compile + steps * self.plain.step)
        return one, self.packed.compile + count * steps * self.packed.step

    @property
    def pays(self) -> bool:
        """Tell whether the one program is faster."""
        plain, packed = self.seconds
        return packed < plain

    def __str__(self) -> str:
        plain, packed = self.seconds
        each, once = self.plain, self.packed
        lines = [
            f"the one program makes {self.flops:.1f} times the FLOPs of the mean architecture",
            f"plain: {each.compile:.1f} s to compile each, {1e3 * each.step:.3g} ms a step",
            f"packed: {once.compile:.1f} s to compile, {1e3 * once.step:.3g} ms a trial's step",
            f"{self.architectures:,} architectures of {self.steps:,} steps: plain {plain:,.0f} s, "
            + f"packed {packed:,.0f} s",
            "packing pays" if self.pays else "packing does not pay: give packed=False",
        ]
        return "\n".join(lines)
