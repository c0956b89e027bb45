"""Checkpoints of one trial in a folder of its own: the one place that knows Orbax.

A checkpoint is named arrays and a few JSON values, saved under the step it was taken at. Orbax
writes it under a temporary name and renames it, so that a kill at any moment leaves whole
checkpoints. The newest two are kept, and the best: the one with the least ``rank``, the earlier of
equal ones. (Orbax alone would rank a NaN first, and would let the best displace the newest.)
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from experiments.spec.errors import first_line
from experiments.training.sharding import PyTree

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

Warn = Callable[[str], None]
_REMOVED = "removed"
_TEMPORARY = "*.orbax-checkpoint-tmp*"


class CheckpointError(ValueError):
    """A checkpoint that must not be continued from; the message is one clear line."""


class Saved(NamedTuple):
    """The arrays and facts saved at ``step``."""

    step: int
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]


def save(
    folder: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    rank: float | None,
) -> None:
    """Save a checkpoint; the newest two and the best are left in ``folder``.

    Args:
      folder: the trial's; made where it does not exist.
      step: later than what is saved there.
      arrays: name -> values of any numeric dtype; bit for bit what `newest` returns.
      about: JSON values.
      rank: smaller is better; None, or a number that is not finite, is never the best.
    """
    import orbax.checkpoint as ocp

    # Orbax refuses an array without elements; dtype and shape say all there is of one.
    empty = {k: [x.dtype.name, x.shape] for k, x in arrays.items() if x.size == 0}
    described = {**about, "empty": empty, "checksum": _checksum(arrays)}
    found = math.inf if rank is None or not math.isfinite(rank) else float(rank)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / _REMOVED, ignore_errors=True)
    with _manager(folder) as manager:
        manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave({k: x for k, x in arrays.items() if k not in empty}),
                about=ocp.args.JsonSave(described),
            ),
            metrics={"rank": found},
        )
    shutil.rmtree(folder / _REMOVED, ignore_errors=True)


def newest(folder: Path, warn: Warn, most: float = math.inf) -> Saved | None:
    """The newest whole checkpoint of at most ``most`` steps, or None.

    A damaged one is passed over, with a line to ``warn``. Nothing is changed on disk.
    """
    if not folder.is_dir():
        return None
    with _manager(folder) as manager:
        for step in sorted((s for s in manager.all_steps() if s <= most), reverse=True):
            try:
                return _load(manager, step)
            except Exception as error:  # noqa: BLE001 (what Orbax raises depends on the damage)
                reason = first_line(error)[:120]
                warn(f"the checkpoint {folder / str(step)} is damaged ({reason}): passed over")
    return None


def newest_about(folder: Path) -> dict[str, Any] | None:
    """The JSON values of the newest checkpoint in which they can be read, or None."""
    import orbax.checkpoint as ocp

    with _manager(folder) as manager:
        for step in sorted(manager.all_steps(), reverse=True):
            with contextlib.suppress(Exception):
                found = manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))
                return dict(found.about)
    return None


def forget_after(folder: Path, step: int) -> None:
    """Remove checkpoints newer than ``step`` and what a kill left half-written.

    Training on from ``step`` will save some of these steps again.
    """
    newer = [path for path in folder.glob("[0-9]*") if path.name.isdigit()]
    _discard(folder, [path for path in newer if int(path.name) > step])
    _discard(folder, folder.glob(_TEMPORARY))


def set_aside(folder: Path) -> None:
    """Move the checkpoints of ``folder`` out of the way, unless some are aside already.

    They stay until `drop_aside`, and `bring_back` undoes it.
    """
    if _steps(folder) and not _steps(aside(folder)):
        shutil.rmtree(aside(folder), ignore_errors=True)
        folder.rename(aside(folder))


def bring_back(folder: Path) -> None:
    """Put what was set aside in the place of what ``folder`` holds."""
    if _steps(aside(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        aside(folder).rename(folder)


def drop_aside(folder: Path) -> None:
    """Remove what was set aside of ``folder``."""
    shutil.rmtree(aside(folder), ignore_errors=True)


def aside(folder: Path) -> Path:
    """Return the folder in which an older plan's checkpoints wait for the newer plan's first."""
    return folder.with_name(f"{folder.name}-aside")


def _steps(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()]


def keep_best(folder: Path) -> None:
    """Remove all but the best checkpoint; the whole folder where none was at an evaluation."""
    if not folder.is_dir():
        remove(folder)
        return
    drop_aside(folder)
    with _manager(folder) as manager:
        best = _best({step: _rank(manager.metrics(step)) for step in manager.all_steps()})
    if best is None:
        remove(folder)
    else:
        _discard(folder, [p for p in folder.iterdir() if p.name not in (str(best), _REMOVED)])


def remove(folder: Path) -> None:
    """Remove the folder of a trial, and those above it that it leaves empty."""
    drop_aside(folder)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
        folder.parent.parent.rmdir()


def _rank(metrics: Mapping[str, float] | None) -> float:
    return math.inf if metrics is None else metrics["rank"]


def _best(ranks: Mapping[int, float]) -> int | None:
    """The step of the least finite rank, the earlier of equal ones."""
    least = min(ranks.values(), default=math.inf)
    return min(s for s, rank in ranks.items() if rank == least) if least < math.inf else None


class _NewestTwoAndBest:
    """A preservation policy of Orbax's `CheckpointManager`."""

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = sorted(info.step for info in checkpoints)
        kept = {*steps[-2:], _best({info.step: _rank(info.metrics) for info in checkpoints})}
        return [info.step in kept for info in checkpoints]


def _discard(folder: Path, paths: Iterable[Path]) -> None:
    """Rename, then remove: no kill leaves half a checkpoint under a checkpoint's name."""
    removed = folder / _REMOVED
    shutil.rmtree(removed, ignore_errors=True)
    removed.mkdir()
    for path in paths:
        path.rename(removed / path.name)
    shutil.rmtree(removed, ignore_errors=True)


@contextlib.contextmanager
def _manager(folder: Path) -> Iterator[ocp.CheckpointManager]:
    # Here: most studies have short trials, save nothing, and need not wait for the import.
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        best_fn=_rank,  # without it Orbax would not write metrics
        preservation_policy=_NewestTwoAndBest(),
        todelete_subdir=_REMOVED,  # see `_discard`
        enable_async_checkpointing=False,
        # Of several processes the first saves, and waits for none. (Orbax then makes no folder.)
        create=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
    )
    with ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        yield manager


def _load(manager: ocp.CheckpointManager, step: int) -> Saved:
    import orbax.checkpoint as ocp

    found = manager.restore(
        step,
        args=ocp.args.Composite(arrays=ocp.args.StandardRestore(), about=ocp.args.JsonRestore()),
    )
    about = dict(found.about)
    checksum, empty = about.pop("checksum"), about.pop("empty")
    arrays = {name: np.asarray(x) for name, x in found.arrays.items()}
    arrays |= {name: np.zeros(shape, np.dtype(dtype)) for name, (dtype, shape) in empty.items()}
    if _checksum(arrays) != checksum:
        raise CheckpointError("its bytes are not those that were saved")
    return Saved(step, arrays, about)


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


# Trees as named arrays.


def named(prefix: str, tree: PyTree) -> dict[str, np.ndarray]:
    """The leaves of a tree by ``prefix`` and path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {prefix + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def filled(prefix: str, shapes: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The tree like ``shapes`` whose leaves `named` gave; CheckpointError where they differ."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    wanted = {prefix + jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    mine = {name for name in arrays if name.startswith(prefix)}
    unequal = sorted(mine ^ wanted.keys()) + [
        name
        for name in sorted(mine & wanted.keys())
        if (arrays[name].shape, arrays[name].dtype) != (wanted[name].shape, wanted[name].dtype)
    ]
    if unequal:
        raise CheckpointError(f"{unequal[0]} is not what this version of the code trains")
    return jax.tree.unflatten(structure, [arrays[name] for name in wanted])
