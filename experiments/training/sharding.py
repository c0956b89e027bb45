"""Sharding: how the examples of a step are cut, and how functions run over the devices of a layout.

A step's B examples are cut at ghost borders (workloads/models/normalization.py) into pieces of
equal shape, one for each device and micro-batch; what does not divide is padded with examples of
weight zero. So a batch size need not divide by anything, and neither the gradient nor a batch
statistic nor a dropout mask depends on how it is cut.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.training.layout import Layout

TRIALS, DATA = "trials", "data"
"""Names of the two axes of devices: slots of a pack, examples of a step."""
Leaf = Any
"""A leaf of a pytree: an array of jax or of NumPy, its shape, or its `PartitionSpec`."""
PyTree = Any
"""Leaves in a structure that a model, an update rule or a workload chooses."""
Specs = Any
"""A `PartitionSpec`, or a structure of them that is a prefix of the arrays' own."""


CompilerOptions = dict[str, bool | int | float | str]


class Compiled(Protocol):
    """A function that is compiled when it is first called."""

    def __call__(self, *arguments: PyTree) -> PyTree:
        """Run it."""

    def lower(self, *arguments: PyTree) -> jax.stages.Lowered:
        """The program for arguments of these shapes, to be examined and not run."""


class ShardAssignment(NamedTuple):
    """Examples of the global batch in a device's rows: [pieces, rows] each.

    A row of padding repeats an example of its own ghost batch, so that it is as finite.
    """

    position: Leaf  # int32, place in the global batch
    weights: Leaf  # float32, 1, or 0 for padding


@functools.cache
def cut(batch_size: int, layout: Layout, ghost_batch_size: int | None) -> ShardAssignment | None:
    """The pieces of a batch, device by device; None where it stays whole.

    Args:
      batch_size: B.
      layout: of devices and micro-batches.
      ghost_batch_size: G, consecutive examples that must share a piece; None for the whole
        batch. There are max(1, B // G) such groups, the last with the remainder: the rule of
        `workloads.models.normalization.ghost_sizes`, which a piece of these rows obeys too.

    Returns:
      [data x micro-batches, rows], ``rows`` at most ``layout.micro_batch``.

    Raises:
      ValueError: a group is larger than a micro-batch.
    """
    if not layout.divides:
        return None
    size = batch_size if ghost_batch_size is None else min(ghost_batch_size, batch_size)
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
    return ShardAssignment(position, weights)


class Sharding:
    """Runs functions of arrays over the devices of a layout.

    Arguments and results are described by PartitionSpecs over `TRIALS` and `DATA`; inside, a
    function sees its device's part and the axis names.

    Attributes:
      layout: the layout.
      axis: the name over which gradients and metrics are summed; None on one device.
    """

    def __init__(self, layout: Layout):
        self.layout = layout
        self.axis = DATA if layout.data > 1 else None
        self._devices: list[jax.Device] = []
        if layout.how in ("pmap", "shard_map"):
            devices = jax.devices()
            if layout.devices > len(devices):
                raise ValueError(
                    f"{layout} needs {layout.devices} devices, there are {len(devices)}"
                )
            self._devices = devices[: layout.devices]
            grid = np.array(self._devices)
            self._mesh = (
                Mesh(grid, (DATA,))
                if layout.how == "pmap"
                else Mesh(grid.reshape(layout.trials, layout.data), (TRIALS, DATA))
            )

    @property
    def device_ids(self) -> tuple[int, ...]:
        """The devices, in order; none where jax's default device is used."""
        return tuple(device.id for device in self._devices)

    def compiled(
        self,
        function: Callable[..., PyTree],
        inputs: tuple[Specs, ...],
        outputs: Specs,
        *,
        donate: tuple[int, ...] = (),
        options: CompilerOptions | None = None,
    ) -> Compiled:
        """``function`` compiled for the devices.

        Args:
          function: of arrays.
          inputs: the specs of each argument.
          outputs: the specs of the result; whole along `DATA`.
          donate: arguments whose memory the results may take.
          options: of the compiler.

        Returns:
          A function of NumPy arrays, whole ones, and of jax's as `put` or an earlier call
          returned them.
        """
        if self.layout.how == "jit":
            return jax.jit(function, donate_argnums=donate, compiler_options=options)
        jitted = self._jitted(function, inputs, outputs, donate=donate, options=options)
        return _OnDevices(self, jitted, inputs)

    def _jitted(
        self,
        function: Callable[..., PyTree],
        inputs: tuple[Specs, ...],
        outputs: Specs,
        *,
        donate: tuple[int, ...],
        options: CompilerOptions | None,
    ) -> Compiled:
        layout = self.layout
        if layout.how == "shard_map":
            # check_vma=False: a gradient is a device's own until it is summed, as under pmap.
            sharded = jax.shard_map(
                function, mesh=self._mesh, in_specs=inputs, out_specs=outputs, check_vma=False
            )
            return jax.jit(sharded, donate_argnums=donate, compiler_options=options)
        axes = jax.tree.map(_data_axis, inputs)
        if layout.how == "vmap":
            virtual = jax.vmap(
                function, in_axes=axes, out_axes=None, axis_name=DATA, axis_size=layout.data
            )
            return jax.jit(virtual, donate_argnums=donate, compiler_options=options)
        if not jax.tree.leaves(axes):  # every device does the same: no pmap
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

    def put(self, tree: PyTree, specs: Specs) -> PyTree:
        """Arrays on the devices of the layout, cut as ``specs`` say."""
        if self.layout.how == "jit":
            return tree
        if self.layout.how == "vmap" and specs == P():
            return tree  # one device: nothing is cut, nothing is copied
        return map_by_spec(lambda x, spec: self._put(np.asarray(x), spec), tree, specs)

    def put_host_arrays(self, tree: PyTree, specs: Specs) -> PyTree:
        """`put` of what is NumPy's; what is jax's, or a shape, is left as it is."""

        def put(x: PyTree, spec: P) -> PyTree:
            known = isinstance(x, jax.Array | jax.ShapeDtypeStruct)
            return x if known else self._put(np.asarray(x), spec)

        return map_by_spec(put, tree, specs)

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


class _OnDevices:
    """A compiled function that takes NumPy arrays to the devices first."""

    def __init__(self, sharding: Sharding, jitted: Compiled, inputs: tuple[Specs, ...]):
        self._sharding, self._jitted, self._inputs = sharding, jitted, inputs

    def _placed(self, arguments: tuple[PyTree, ...]) -> list[PyTree]:
        given = zip(arguments, self._inputs, strict=True)
        return [self._sharding.put_host_arrays(tree, specs) for tree, specs in given]

    def __call__(self, *arguments: PyTree) -> PyTree:
        return self._jitted(*self._placed(arguments))

    def lower(self, *arguments: PyTree) -> jax.stages.Lowered:
        return self._jitted.lower(*self._placed(arguments))


def axis_of(name: str, spec: P) -> int | None:
    """The array axis that ``spec`` cuts over the device axis ``name``; None if it cuts none."""
    return list(spec).index(name) if name in spec else None


def _data_axis(spec: P) -> int | None:
    return axis_of(DATA, spec)


def map_by_spec(function: Callable[[PyTree, P], PyTree], tree: PyTree, specs: Specs) -> PyTree:
    """``function(leaf, spec)`` of every leaf; ``specs`` is a prefix of ``tree``."""
    return jax.tree.map(
        lambda spec, part: jax.tree.map(lambda leaf: function(leaf, spec), part), specs, tree
    )
