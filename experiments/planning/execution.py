"""A plan: how the trials of every batch size are executed.

Chosen by measurement, in probe.py; recorded, and taken up by a resume.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from experiments.runtime.platform import cores
from experiments.spec.trial import RecordNorms
from experiments.training.layout import ONE_DEVICE, Execution, Layout, Mode
from experiments.training.memory_use import least_evaluation_batch

DEFAULT_PACK = 8


@dataclasses.dataclass(frozen=True)
class ExecutionPlan:
    """The chosen executions with the reasons, as the record keeps them.

    Attributes:
      executions: batch size -> how its trials run.
      seconds_per_step: batch size -> wall-clock seconds of one trial-step, all workers busy.
      workers: packs trained at a time, each from its own thread.
      record_norms: "every", "evaluations" or "off".
      request: what was asked for, in words (`ExecutionRequest`).
      reason: one line.
      probe: what was measured: rows of batch_size, execution, seconds_per_step.
      probe_seconds: what measuring cost.
      device: platform and kind.
    """

    executions: Mapping[int, Execution]
    seconds_per_step: Mapping[int, float]
    workers: int
    record_norms: RecordNorms
    request: str
    reason: str
    probe: Sequence[Mapping[str, Any]] = ()
    probe_seconds: float = 0.0
    device: str = ""

    def after_out_of_memory(self, batch_size: int) -> ExecutionPlan | None:
        """Return a plan that takes less memory at ``batch_size``; None if nothing can shrink.

        Half as many slots; half as many workers if each group of devices has one slot; with one
        worker half the examples of an evaluation, if a step takes fewer at a time.
        """
        execution, workers = self.executions[batch_size], self.workers
        evaluated = execution.evaluation_batch or 0
        if execution.slots > execution.layout.trials:
            slots = execution.slots // 2
            mode: Mode = execution.mode if slots > 1 else "scan"
            execution = dataclasses.replace(execution, mode=mode, slots=slots)
        elif workers > 1:
            workers //= 2
        elif evaluated > least_evaluation_batch(execution.layout, batch_size):
            execution = dataclasses.replace(execution, evaluation_batch=evaluated // 2)
        else:
            return None
        reason = f"out of memory at batch size {batch_size} with {self.executions[batch_size]}"
        if execution.evaluation_batch != self.executions[batch_size].evaluation_batch:
            reason = f"{reason}, {evaluated} examples evaluated at a time"
        return dataclasses.replace(
            self,
            executions={**self.executions, batch_size: execution},
            workers=workers,
            reason=f"{reason}, {self.workers} at a time" if self.workers > 1 else reason,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for study.json."""
        data = dataclasses.asdict(self)
        data["executions"] = {str(b): e.to_json() for b, e in self.executions.items()}
        data["seconds_per_step"] = {str(b): s for b, s in self.seconds_per_step.items()}
        data["probe"] = [dict(row) for row in self.probe]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExecutionPlan:
        """The plan that `to_json` wrote."""
        fields = dict(data)
        fields["executions"] = {
            int(b): Execution.from_json(e) for b, e in data["executions"].items()
        }
        fields["seconds_per_step"] = {int(b): s for b, s in data["seconds_per_step"].items()}
        return cls(**fields)


def device_name() -> str:
    """Platform, kind and number of the devices, e.g. ``"cpu (cpu)"`` or ``"gpu (H100) x 8"``."""
    device, count = jax.local_devices()[0], jax.device_count()
    name = f"{device.platform} ({device.device_kind})"
    return f"{name} x {count}" if count > 1 else name


def default_workers() -> int:
    """Packs trained at a time: one a core on one CPU device, one on anything else.

    A small trial uses one core. On several devices two packs that exchange sums would wait for
    each other.
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return 1
    return cores()


def candidates(packable: bool = True) -> list[Execution]:
    """Executions of one device worth measuring on this backend, the likeliest first.

    Without packs for second-order rules: a pack's line searches all last as long as the longest,
    and every slot has a Hessian of its own.
    """
    if not packable:
        return [Execution("scan"), Execution("loop")]
    if jax.default_backend() == "cpu":
        return [Execution("scan"), Execution("loop"), Execution("packed", DEFAULT_PACK)]
    packs = [Execution("packed", slots) for slots in (8, 32, 128)]
    return [Execution("scan"), *packs, Execution("loop")]


def spread_candidates(divisible: bool) -> list[Execution]:
    """Executions of all local devices worth measuring; none where there is one device.

    From a pack on every device to every device on one trial, and half way between. Where the
    update rule needs the loss of the whole batch (not ``divisible``), one trial a device.
    """
    count = jax.local_device_count()
    if count == 1:
        return []
    groups = 1 << (count.bit_length() - 1)  # slots are a power of two, equally many a device
    apart = Layout("shard_map", trials=groups)
    packs = [Execution("packed", groups * each, apart) for each in (1, DEFAULT_PACK)]
    if not divisible:
        return packs[:1]
    both = [Layout("shard_map", groups // 2, 2)] if groups > 2 else []
    middle = [Execution("packed", layout.trials, layout) for layout in both]
    return [*packs, *middle, Execution("scan", 1, Layout("pmap", data=count))]


@dataclasses.dataclass(frozen=True)
class ExecutionRequest:
    """The execution, layout and workers that a caller asks for.

    Attributes:
      execution: "auto" (the plan measures), "loop", "scan" or "packed" (`DEFAULT_PACK` slots).
      layout: devices and micro-batches; None: the plan chooses among the devices there are.
      workers: packs trained at a time; None: `default_workers`.
    """

    execution: str = "auto"
    layout: Layout | None = None
    workers: int | None = None

    def __str__(self) -> str:
        """The execution and the layout, as the plan records them; "auto" for neither."""
        return self.execution if self.layout is None else f"{self.execution}, {self.layout}"

    def candidates(self, divisible: bool) -> list[Execution]:
        """Executions to choose from: all there are, or what was asked for.

        Raises:
          ValueError: an execution that a layout of several devices does not have.
        """
        execution = self.execution
        if self.layout is None and execution == "auto":
            return [*candidates(packable=divisible), *spread_candidates(divisible)]
        layout = self.layout or ONE_DEVICE
        if layout.devices == 1:
            found = [dataclasses.replace(e, layout=layout) for e in candidates(packable=divisible)]
        elif layout.trials == 1:
            found = [Execution("scan", 1, layout)]
        else:
            packs = (1, DEFAULT_PACK) if divisible else (1,)
            found = [Execution("packed", layout.trials * n, layout) for n in packs]
        if execution == "auto":
            return found
        single_slot = layout.devices > 1 and layout.trials == 1
        if (layout.devices > 1 and execution == "loop") or (single_slot and execution == "packed"):
            raise ValueError(f"--execution {execution} has no place with {layout}")
        slots = layout.trials * (DEFAULT_PACK if execution == "packed" else 1)
        mode: Mode = "packed" if slots > 1 else execution  # type: ignore[assignment]
        return [Execution(mode, slots, layout)]


AUTO = ExecutionRequest()
