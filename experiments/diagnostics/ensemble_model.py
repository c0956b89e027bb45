"""An ensemble as one value that predicts, and as one checkpoint.

    from experiments.diagnostics.ensemble_model import load_ensemble
    ensemble = load_ensemble("runs/quickstart/ensembles/inits-4/model")
    ensemble.probabilities(images)      # [examples, classes], the mean of the members'

Members share a static configuration; their parameters, running statistics and hyperparameters are
stacked. What is saved is an Orbax checkpoint (`experiments.training.checkpoint`) of these arrays,
with the study that says how to build the model.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.ensembles import averaged
from experiments.diagnostics.problem import Params, in_chunks
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import reopened
from experiments.spec.trial import TrialConfig
from experiments.training import checkpoint
from experiments.training.checkpoint import CheckpointError
from experiments.training.state import key_of, make_task

ROWS = 256
"""Examples that are predicted at a time."""
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Member:
    """A trained model.

    Attributes:
      params, model_state: its parameters and running statistics.
      hyperparameters: the numbers its model reads.
      name: where it comes from.
    """

    params: Params
    model_state: Any
    hyperparameters: Mapping[str, Any]
    name: str


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Members that predict together.

    Attributes:
      config: the static configuration of all.
      members: at least one.
      kind: "inits", "top", "checkpoints" or "average".
    """

    config: TrialConfig
    members: tuple[Member, ...]
    kind: str

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Every member's scores [members, examples, classes], float32 or wider.

        Args:
          inputs: [examples, ...] as the dataset gives them.

        Raises:
          ValueError: a model whose outputs are no scores of classes [examples, classes].
        """
        apply = _applied(self.config)
        count = len(inputs)
        chunks = in_chunks({"inputs": np.asarray(inputs)}, ROWS)["inputs"]
        found = []
        for member in self.members:
            given = member.params, member.model_state, dict(member.hyperparameters)
            outputs = np.concatenate([np.asarray(apply(*given, chunk)) for chunk in chunks])
            if outputs.ndim != 2:
                raise ValueError(
                    "an ensemble averages probabilities of classes: outputs must be [examples, "
                    f"classes], those of {self.config.workload.name} have {outputs.ndim} axes"
                )
            found.append(outputs[:count])
        return np.stack(found)

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """The mean of the members' probabilities [examples, classes], float64."""
        return np.exp(averaged(self.logits(inputs)))


@functools.cache
def _applied(config: TrialConfig) -> Any:
    """(params, model state, hyperparameters, inputs) -> outputs, compiled."""
    task = make_task(config)
    key = key_of(jnp.zeros(2, jnp.uint32))

    @jax.jit
    def apply(params: Params, model_state: Any, values: Any, inputs: jax.Array) -> jax.Array:
        rows = inputs.shape[0]
        places = jnp.arange(rows, dtype=jnp.int32)
        batch = {"inputs": inputs, "weights": jnp.ones(rows), "position": places}
        prepared = task.preprocess(batch, key, False)
        with jax.default_matmul_precision(config.precision.matmul):
            return task.model.apply(
                params, model_state, prepared, key=key, train=False, hyperparameters=values
            )[0]

    return apply


def save_ensemble(
    ensemble: Ensemble, folder: Path, study: ResolvedStudy, example: Mapping[str, np.ndarray]
) -> None:
    """Write the ensemble as one checkpoint into ``folder``, whole or not at all.

    Args:
      ensemble: to be saved.
      folder: made where it does not exist; an ensemble there stays beside the new one, and the
        newest is loaded.
      study: whose trials the members are.
      example: one training example ``inputs, targets`` [1, ...], from which a model's shapes
        follow.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, member in enumerate(ensemble.members):
        tree = {
            "params": member.params,
            "state": member.model_state,
            "numbers": {n: np.asarray(v) for n, v in member.hyperparameters.items()},
        }
        arrays |= checkpoint.named(f"{number}/", tree)
    about = {
        "format": _FORMAT,
        "kind": ensemble.kind,
        "record_norms": ensemble.config.record_norms,
        "members": [member.name for member in ensemble.members],
        "numbers": sorted(ensemble.members[0].hyperparameters),
        "study": {"study": study.describe(), "source": study.source},
        "example": {n: [x.shape, str(x.dtype)] for n, x in example.items()},
    }
    before = checkpoint.newest(folder, _unheard)
    checkpoint.save(folder, before.step + 1 if before else 1, arrays, about, None)


def load_ensemble(folder: Path | str) -> Ensemble:
    """The ensemble that `save_ensemble` wrote.

    Raises:
      CheckpointError: there is none, it is damaged, or of a model that this code does not build.
    """
    saved = checkpoint.newest(Path(folder), _raised)
    if saved is None or "members" not in saved.about:
        raise CheckpointError(f"there is no ensemble in {folder}")
    about = saved.about
    config = reopened(about["study"]).config(about["record_norms"])
    shapes = _shapes(config, about["example"], saved.arrays, about["numbers"])
    members = []
    for number, name in enumerate(about["members"]):
        tree = checkpoint.filled(f"{number}/", shapes, saved.arrays)
        members.append(Member(tree["params"], tree["state"], tree["numbers"], name))
    return Ensemble(config, tuple(members), about["kind"])


def _unheard(line: str) -> None:
    del line


def _raised(line: str) -> None:
    raise CheckpointError(line)


def _shapes(
    config: TrialConfig,
    example: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> dict[str, Any]:
    """The tree of a member as shapes and dtypes."""
    task, key = make_task(config), key_of(jnp.zeros(2, jnp.uint32))

    def init(batch: Mapping[str, jax.Array]) -> Any:
        return task.model.init(key, task.preprocess(batch, key, False))

    batch = {n: jax.ShapeDtypeStruct(tuple(s), d) for n, (s, d) in example.items()}
    batch["weights"] = jax.ShapeDtypeStruct((1,), "float32")
    batch["position"] = jax.ShapeDtypeStruct((1,), "int32")
    params, state = jax.eval_shape(init, batch)
    kinds = {n: arrays[f"0/['numbers']['{n}']"] for n in names}
    numbers = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in kinds.items()}
    return {"params": params, "state": state, "numbers": numbers}
