"""Execution of the trials of one batch size: `Layout` (devices), `Execution` (all of it)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax

How = Literal["jit", "pmap", "shard_map", "vmap"]
Mode = Literal["loop", "scan", "packed"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The devices and micro-batches of a pack; they change only the last bits of a result.

    Attributes:
      how: "jit", one device; "pmap", every trial over ``data`` devices; "shard_map", also a mesh
        of ``trials`` x ``data`` devices; "vmap", ``data`` virtual replicas on one device.
      trials: groups of devices, each with its own share of the slots; they exchange nothing.
      data: devices that share the examples of a step.
      micro_batch: the most examples that a device takes at a time, None for its whole share.

    Raises:
      ValueError: devices where "jit" has one, trials where "pmap" and "vmap" have one group.
    """

    how: How = "jit"
    trials: int = 1
    data: int = 1
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ValueError(f"how must be one of {', '.join(get_args(How))}, got {self.how!r}")
        for field in ("trials", "data"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, got {self.micro_batch}")
        if self.how == "jit" and self.devices > 1:
            raise ValueError(f"jit runs on one device, got trials={self.trials} data={self.data}")
        if self.how in ("pmap", "vmap") and self.trials > 1:
            raise ValueError(f"{self.how} spreads one trial, got trials={self.trials}")

    @property
    def devices(self) -> int:
        """Devices (of "vmap": virtual ones)."""
        return self.trials * self.data

    @property
    def divides(self) -> bool:
        """Tell whether the examples of a step are cut at all."""
        return self.data > 1 or self.micro_batch is not None

    def to_json(self) -> dict[str, Any]:
        """The fields that are not as on one device."""
        plain = dataclasses.asdict(self)
        return {k: v for k, v in plain.items() if v != getattr(ONE_DEVICE, k)}

    def __str__(self) -> str:
        words = [] if self.how == "jit" else [f"{self.how} trials={self.trials},data={self.data}"]
        return ", ".join(
            [*words, *([f"micro-batch {self.micro_batch}"] if self.micro_batch else [])]
        )


ONE_DEVICE = Layout()


@dataclasses.dataclass(frozen=True)
class Execution:
    """Execution of the trials of one batch size: mode, pack, devices.

    Attributes:
      mode: "loop", a dispatch a step; "scan", many steps a call; "packed", of several trials too.
      slots: trials in one pack, a power of two; 1 unless ``mode`` is "packed" (or "loop").
      layout: devices and micro-batches.
      evaluation_batch: examples evaluated at a time, over all devices that share a step; None: as
        `memory_use.evaluation_batch` says. It changes the last bits of an evaluation.

    Raises:
      ValueError: ``slots`` is not a power of two, ``evaluation_batch`` is below 1.
    """

    mode: Mode
    slots: int = 1
    layout: Layout = ONE_DEVICE
    evaluation_batch: int | None = None

    def __post_init__(self) -> None:
        if self.slots < 1 or self.slots & (self.slots - 1):
            raise ValueError(f"slots must be a power of two, got {self.slots}")
        if self.evaluation_batch is not None and self.evaluation_batch < 1:
            raise ValueError(f"evaluation_batch must be at least 1, got {self.evaluation_batch}")

    def __str__(self) -> str:
        words = f"{self.mode} x {self.slots}" if self.slots > 1 else self.mode
        return words if self.layout == ONE_DEVICE else f"{words}, {self.layout}"

    def load(self, batch_size: int) -> tuple[float, int]:
        """(examples of a step, slots) of one device."""
        return batch_size / self.layout.data, self.slots // self.layout.trials

    def to_json(self) -> dict[str, Any]:
        """Plain data; of a layout the fields that are not as on one device."""
        plain: dict[str, Any] = {"mode": self.mode, "slots": self.slots}
        if self.layout != ONE_DEVICE:
            plain["layout"] = self.layout.to_json()
        if self.evaluation_batch is not None:
            plain["evaluation_batch"] = self.evaluation_batch
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Execution:
        """The execution that `to_json` wrote."""
        layout = Layout(**data.get("layout", {}))
        return cls(data["mode"], data["slots"], layout, data.get("evaluation_batch"))


SCAN = Execution("scan")


def chosen_layout(
    parallel: str | None, mesh: tuple[int, int] | None, micro_batch: int | None
) -> Layout | None:
    """The layout that a user asks for; None where nothing is asked and the plan chooses.

    Several processes train every trial over all their devices.

    Args:
      parallel: "pmap" or "shard_map", over all devices unless ``mesh`` says otherwise.
      mesh: (trials, data), by shard_map.
      micro_batch: as in `Layout`; alone, on one device.

    Raises:
      ValueError: what `Layout` refuses, or a mesh that is not all the devices.
    """
    if jax.process_count() > 1:  # one trial over all; how many devices, every process knows
        return Layout("shard_map", data=jax.device_count(), micro_batch=micro_batch)
    if parallel is None and mesh is None:
        return None if micro_batch is None else Layout(micro_batch=micro_batch)
    count = jax.device_count()
    if mesh is None:
        return Layout(parallel, data=count, micro_batch=micro_batch)  # type: ignore[arg-type]
    trials, data = mesh
    if parallel == "pmap":
        raise ValueError("--parallel pmap takes all devices for a trial: no place for --mesh")
    if trials & (trials - 1):
        raise ValueError(f"--mesh trials must be a power of two, got {trials}")
    if trials * data != count:
        there = "1 device" if count == 1 else f"{count} devices"
        raise ValueError(
            f"--mesh trials={trials},data={data} is for {trials * data} devices, "
            f"there {'is' if count == 1 else 'are'} {there}"
        )
    return Layout("shard_map", trials, data, micro_batch)
