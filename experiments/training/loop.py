"""Execution "loop": a chunk as one dispatch a step, rather than one call."""

from __future__ import annotations

from collections.abc import Hashable

import jax
import numpy as np

from experiments.training.pack import clipped_steps
from experiments.training.program import Program
from experiments.training.pytrees import ChunkResults, EvaluationInputs, Pack, StepInputs
from experiments.training.slots import Chunk, LoopResults


def dispatch_loop(
    program: Program, shapes: Hashable, pack: Pack, chunk: Chunk
) -> tuple[Pack, LoopResults]:
    """Begin a chunk; ``shapes`` as in `CompiledOnce`."""
    inputs, evaluations, steps = chunk.inputs, [], []
    first = 0
    for j, end in enumerate(inputs.ends[: inputs.segments]):
        for i in range(first, end):
            step = StepInputs(inputs.train, inputs.stream[i], inputs.assignment)
            pack, measured = program.single_step(shapes, pack, step)
            steps.append(measured)
        first = end
        if inputs.evaluation_mask[j].any():
            following = StepInputs(inputs.train, inputs.stream[end], inputs.assignment)
            given = EvaluationInputs(following, inputs.evaluation_mask[j], inputs.evaluation)
            pack, found = program.evaluate(shapes, pack, given)
            evaluations.append((j, found))
    # Copies: the pack's own arrays are given to the next step.
    ends = jax.tree.map(lambda x: x.copy(), (pack.states.diverged_at, clipped_steps(pack)))
    return pack, LoopResults(evaluations, steps, *ends)


def loop_results(program: Program, chunk: Chunk, found: LoopResults) -> ChunkResults:
    """The results, fetched, in the shape that `advance.advance` gives them."""
    evaluations: dict[str, np.ndarray] = {}
    for j, measured in found.evaluations:
        for name, value in measured.items():
            rows = np.zeros((chunk.inputs.segments, *value.shape), value.dtype)
            evaluations.setdefault(name, rows)[j] = value
    recorded = program.computation.norms if program.config.record_norms == "every" else ()
    norms = {name: np.stack([step[name] for step in found.steps]) for name in recorded}
    return ChunkResults(evaluations, norms, found.diverged_at, found.clipped_steps)
