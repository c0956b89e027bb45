"""Devices: how the trials of a pack and the examples of a step are spread over them.

A step's B examples are cut at ghost borders (workloads/models/normalization.py) into pieces of
equal shape, one for each device and micro-batch; what does not divide is padded with examples of
weight zero. So a batch size need not divide by anything, and neither the gradient nor a batch
statistic nor a dropout mask depends on how it is cut.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

How = Literal["jit", "pmap", "shard_map", "vmap"]
TRIALS, DATA = "trials", "data"
"""Names of the two axes of devices: slots of a pack, examples of a step."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a pack runs. It changes the last bits of a result and nothing else.

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
        """Whether the examples of a step are cut at all."""
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


class Places(NamedTuple):
    """Which examples of the global batch a device's rows are: [pieces, rows] each.

    A row of padding repeats an example of its own ghost batch, so that it is as finite.
    """

    position: Any  # int32, place in the global batch
    weights: Any  # float32, 1, or 0 for padding


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


@functools.cache
def cut(batch_size: int, layout: Layout, together: int | None) -> Places | None:
    """The pieces of a batch, device by device; None where it stays whole.

    Args:
      batch_size: B.
      layout: of devices and micro-batches.
      together: G, consecutive examples that must share a piece; None for the whole batch. There
        are max(1, B // G) such groups, the last with the remainder: the rule of
        `workloads.models.normalization.ghost_sizes`, which a piece of these rows obeys too.

    Returns:
      [data x micro-batches, rows], ``rows`` at most ``layout.micro_batch``.

    Raises:
      ValueError: a group is larger than a micro-batch.
    """
    if not layout.divides:
        return None
    size = batch_size if together is None else min(together, batch_size)
    groups = max(1, batch_size // size)
    last = batch_size - (groups - 1) * size
    share = -(-groups // layout.data)
    micro_batches = 1
    if layout.micro_batch is not None:
        if last > layout.micro_batch:
            raise ValueError(
                f"a micro-batch of {layout.micro_batch} is too small at batch size {batch_size}: "
                f"batch norm takes its statistics over {last} examples together"
            )
        micro_batches = -(-share // ((layout.micro_batch - last) // size + 1))
        share = -(-share // micro_batches)
    if layout.data * micro_batches == 1:
        return None
    pieces = layout.data * micro_batches
    position = np.zeros((pieces, (share - 1) * size + last), np.int32)
    weights = np.zeros(position.shape, np.float32)
    for group in range(groups):
        piece, place = divmod(group, share)
        end = group == groups - 1
        # A group with the remainder takes the last place of its piece, the only one so large.
        row = (share - 1 if end else place) * size
        rows = slice(row, row + (last if share - 1 == row // size else size))
        examples = np.arange(last if end else size) + group * size
        position[piece, rows] = examples[0]
        position[piece, row : row + len(examples)] = examples
        weights[piece, row : row + len(examples)] = 1
    return Places(position, weights)


class Spread:
    """Runs functions of arrays over the devices of a layout.

    Arguments and results are described by PartitionSpecs over `TRIALS` and `DATA`; inside, a
    function sees its device's part and the axis names.
    """

    def __init__(self, layout: Layout):
        self.layout = layout
        self.axis = DATA if layout.data > 1 else None
        if layout.how in ("pmap", "shard_map"):
            devices = jax.devices()
            if layout.devices > len(devices):
                raise ValueError(
                    f"{layout} needs {layout.devices} devices, there are {len(devices)}"
                )
            grid = np.array(devices[: layout.devices])
            self._devices = list(grid)
            self._mesh = (
                Mesh(grid, (DATA,))
                if layout.how == "pmap"
                else Mesh(grid.reshape(layout.trials, layout.data), (TRIALS, DATA))
            )

    def compiled(
        self,
        function: Callable[..., Any],
        inputs: tuple[P, ...],
        outputs: Any,
        donate: tuple[int, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Callable[..., Any]:
        """``function`` compiled for the devices; ``outputs`` are whole along `DATA`.

        It takes NumPy arrays, whole ones, and jax's as `put` or an earlier call returned them.
        """
        if self.layout.how == "jit":
            return jax.jit(function, donate_argnums=donate, compiler_options=options)
        jitted = self._jitted(function, inputs, outputs, donate, options)

        def call(*arguments: Any) -> Any:
            given = zip(arguments, inputs, strict=True)
            return jitted(*(self._put_hosts(tree, spec) for tree, spec in given))

        return call

    def _jitted(
        self, function: Callable[..., Any], inputs: Any, outputs: Any, donate: Any, options: Any
    ) -> Callable[..., Any]:
        layout = self.layout
        if layout.how == "shard_map":
            # check_vma=False: a gradient is a device's own until it is summed, as under pmap.
            spread = jax.shard_map(
                function, mesh=self._mesh, in_specs=inputs, out_specs=outputs, check_vma=False
            )
            return jax.jit(spread, donate_argnums=donate, compiler_options=options)
        axes = tuple(_data_axis(spec) for spec in inputs)
        if layout.how == "vmap":
            virtual = jax.vmap(
                function, in_axes=axes, out_axes=None, axis_name=DATA, axis_size=layout.data
            )
            return jax.jit(virtual, donate_argnums=donate, compiler_options=options)
        if not any(axis is not None for axis in axes):  # every device does the same: no pmap
            whole = NamedSharding(self._mesh, P())
            return jax.jit(
                function, donate_argnums=donate, out_shardings=whole, compiler_options=options
            )
        return jax.pmap(
            function,
            axis_name=DATA,
            in_axes=axes,
            out_axes=None,
            devices=self._devices,
            donate_argnums=donate,
        )

    def put(self, tree: Any, spec: P) -> Any:
        """Arrays on the devices of the layout, cut as ``spec`` says."""
        if self.layout.how == "jit":
            return tree
        return jax.tree.map(lambda x: self._put(np.asarray(x), spec), tree)

    def _put_hosts(self, tree: Any, spec: P) -> Any:
        return jax.tree.map(lambda x: x if isinstance(x, jax.Array) else self._put(x, spec), tree)

    def _put(self, array: np.ndarray, spec: P) -> jax.Array:
        axis = _data_axis(spec)
        if axis is not None and self.layout.how in ("pmap", "vmap"):
            # They take an axis of devices: [..., rows, ...] as [..., D, rows / D, ...].
            array = array.reshape(
                *array.shape[:axis], self.layout.data, -1, *array.shape[axis + 1 :]
            )
        if self.layout.how == "vmap":
            return jax.device_put(array)
        known = P(*(name if name in self._mesh.axis_names else None for name in spec))
        sharding = NamedSharding(self._mesh, known)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _data_axis(spec: P) -> int | None:
    return list(spec).index(DATA) if DATA in spec else None
