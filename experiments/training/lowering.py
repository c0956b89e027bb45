"""The programs of a pack, lowered for inspection: no array of a pack is made, nothing runs."""

from __future__ import annotations

import contextlib
from typing import Literal

import jax
import numpy as np

from experiments.spec.trial import Trial
from experiments.training.chunks import ChunkSource
from experiments.training.layout import ONE_DEVICE, Execution
from experiments.training.program import Program
from experiments.training.pytrees import StepInputs
from schedules.batch_size import constant, stretches


def lowered(
    program: Program, trial: Trial, execution: Execution, name: Literal["start", "chunk", "step"]
) -> jax.stages.Lowered:
    """``start`` or ``chunk`` as a pack of trials like ``trial`` runs it, or ``step``, its step on
    one device; `experiments.planning.feasibility` predicts memory and operations from them."""
    program, slots = program.at(execution.layout), execution.slots
    with contextlib.closing(_source(program, trial, execution)) as source:
        values = source.values(trial.hyperparameters)
        batch = program.planned(execution, trial.batch_size, values).evaluation_batch
        assert batch is not None
        pack = program.pack_shapes(slots, values)
        if name == "start":
            on_one = max(1, batch // execution.layout.data)
            keys = np.zeros((2, 2), np.uint32)
            inputs = program.start_inputs(values, keys, 1, batch=on_one)
            return program.start.lower(pack, inputs)
        if name == "step":
            indices = np.zeros((slots, trial.batch_size), np.int32)
            step = StepInputs(program.train, indices, None)
            return program.at(ONE_DEVICE).single_step.lower(pack, step)
        return program.chunk.lower(pack, source.chunk([None] * slots, 1, batch).inputs)


def window_bytes(program: Program, trial: Trial, execution: Execution) -> int:
    """Return what one chunk's window of streamed examples takes; 0 where nothing is streamed."""
    with contextlib.closing(_source(program, trial, execution)) as source:
        return source.window_bytes


def _source(program: Program, trial: Trial, execution: Execution) -> ChunkSource:
    parts = stretches(constant(trial.batch_size))
    return ChunkSource(program.at(execution.layout), parts, execution.slots)
