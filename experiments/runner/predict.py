"""A predictor that ``batchscale automl`` saved: from examples as they came to classes.

    from experiments.runner.predict import load

    predictor = load("runs/automl-digits")
    predictor.predict(images)           # [n] labels as the source wrote them
    predictor.predict_proba(images)     # [n, classes], in the order of predictor.classes

Preparation is inside: inputs are given as the source gave them. Of a table they are a mapping from
columns to arrays, a data frame, or the path of a CSV without the target.
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

from experiments.diagnostics.problem import in_chunks
from experiments.spec.families import FAMILIES
from experiments.spec.space import Value
from experiments.training import checkpoint
from experiments.training.checkpoint import CheckpointError
from workloads.datasets.preparation import Preparation
from workloads.datasets.sources import read_table
from workloads.models.folds import Folds
from workloads.models.linen import LinenModel
from workloads.registry import resolve

MODEL_FOLDER = "model"
ROWS = 512
"""Examples that are predicted at a time."""
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class TrainedNet:
    """A trained net of a family.

    Attributes:
      values: its hyperparameters, ``family`` among them.
      params, state: its parameters and running statistics.
      weight: its share of the prediction.
      name: where it comes from.
      folds: N nets of cross-validation, side by side in its arrays; 1: one net.
      examples: that it was trained on, all folds together; 0: unknown.
    """

    values: Mapping[str, Value]
    params: Any
    state: Any
    weight: float
    name: str
    folds: int = 1
    examples: int = 0


def module_of(values: Mapping[str, Value], classes: int, folds: int = 1) -> Any:
    """The linen module of a trial's values: logits [B, K], of several folds [B, N, K]."""
    net = resolve(FAMILIES[str(values["family"])].build)(values, classes)
    return net if folds == 1 else Folds(net, folds)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Nets that predict together, with the preparation of their inputs.

    Attributes:
      classes: [classes] the labels, ascending.
      preparation: of inputs.
      nets: their weights sum to 1.
      about: what it was trained on, JSON values.
    """

    classes: np.ndarray
    preparation: Preparation
    nets: Sequence[TrainedNet]
    about: Mapping[str, Any]

    def predict(self, inputs: Any) -> np.ndarray:
        """[n] the likeliest label of each example; as `predict_proba`."""
        return self.classes[self.predict_proba(inputs).argmax(axis=1)]

    def predict_proba(self, inputs: Any) -> np.ndarray:
        """[n, classes] float64: the weighted mean of the nets' probabilities.

        Args:
          inputs: [n, ...] as the source gave them; of a table a mapping from columns to arrays, a
            data frame, or the path of a CSV.

        Raises:
          ValueError: inputs of another form, or with a number that is not finite.
          DataError: a CSV that cannot be read.
        """
        prepared = self.preparation(_given(inputs, self.preparation))
        if not len(prepared):
            return np.zeros((0, len(self.classes)))
        return sum(
            net.weight * probabilities(net, prepared, len(self.classes)) for net in self.nets
        )  # type: ignore[return-value]


def probabilities(net: TrainedNet, prepared: np.ndarray, classes: int) -> np.ndarray:
    """[n, classes] float64 of one net, of prepared inputs: the mean over its folds."""
    return of_folds(net, prepared, classes).mean(axis=1)


def of_folds(net: TrainedNet, prepared: np.ndarray, classes: int) -> np.ndarray:
    """[n, folds, classes] float64: the probabilities of a net, fold by fold."""
    apply = _applied(module_of(net.values, classes, net.folds))
    chunks = in_chunks({"inputs": prepared}, ROWS)["inputs"]
    logits = np.concatenate([np.asarray(apply(net.params, net.state, chunk)) for chunk in chunks])
    logits = logits[: len(prepared)].astype(np.float64)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares.reshape(len(prepared), net.folds, classes)


@functools.lru_cache(maxsize=64)
def _applied(module: Any) -> Any:
    """(params, state, inputs) -> logits, compiled."""
    model = LinenModel(module)

    @jax.jit
    def apply(params: Any, state: Any, inputs: jax.Array) -> jax.Array:
        return model.apply(params, state, _batch(inputs), key=None, train=False,
                           hyperparameters={})[0]  # fmt: skip

    return apply


def _batch(inputs: jax.Array) -> dict[str, jax.Array]:
    count = inputs.shape[0]
    return {"inputs": inputs, "weights": jnp.ones(count),
            "position": jnp.arange(count, dtype=jnp.int32)}  # fmt: skip


def _given(inputs: Any, preparation: Preparation) -> Any:
    """Inputs as `Preparation` takes them."""
    if isinstance(inputs, (str, Path)):
        texts = [name for name, kinds in preparation.columns.items() if kinds is not None]
        return read_table(Path(inputs), texts)
    if not isinstance(inputs, Mapping) and not hasattr(inputs, "columns"):
        return np.asarray(inputs)
    columns = {str(name): np.asarray(inputs[name]) for name in getattr(inputs, "columns", inputs)}
    return {n: c.astype(str) if c.dtype.kind == "O" else c for n, c in columns.items()}


def save(predictor: Predictor, folder: Path) -> None:
    """Write ``folder/model`` as one Orbax checkpoint, whole or not at all; the newest is loaded."""
    arrays: dict[str, np.ndarray] = {}
    for number, net in enumerate(predictor.nets):
        arrays |= checkpoint.named(f"{number}/", {"params": net.params, "state": net.state})
    classes = predictor.classes
    texts = classes.dtype.kind == "U"
    about = {
        "format": _FORMAT,
        "classes": classes.tolist(),
        "dtype": "str" if texts else classes.dtype.name,
        "preparation": predictor.preparation.to_json(),
        "example": list(predictor.about["example"]),
        "nets": [
            {
                "values": dict(net.values),
                "weight": net.weight,
                "name": net.name,
                "folds": net.folds,
                "examples": net.examples,
            }
            for net in predictor.nets
        ],
        "about": dict(predictor.about),
    }
    place = folder / MODEL_FOLDER
    before = checkpoint.newest(place, lambda line: None)
    checkpoint.save(place, before.step + 1 if before else 1, arrays, about, None)


def load(folder: Path | str) -> Predictor:
    """The predictor in the folder of an ``automl``.

    Raises:
      CheckpointError: there is none, or it is damaged or of code that this version has not.
    """
    saved = checkpoint.newest(Path(folder) / MODEL_FOLDER, _raised)
    if saved is None or "nets" not in saved.about:
        raise CheckpointError(f"there is no predictor in {folder}: batchscale automl writes one")
    about = saved.about
    classes = np.array(about["classes"], dtype=about["dtype"])
    nets = []
    for number, held in enumerate(about["nets"]):
        if held["values"]["family"] not in FAMILIES:
            raise CheckpointError(f"{folder} holds a net of an unknown family: {held['values']}")
        folds = held.get("folds", 1)  # older predictors have one net a trial, and say less of it
        shapes = initial(held["values"], len(classes), about["example"], folds, shapes=True)
        tree = checkpoint.filled(f"{number}/", shapes, saved.arrays)
        own = (held["values"], tree["params"], tree["state"], held["weight"], held["name"], folds)
        nets.append(TrainedNet(*own, held.get("examples", 0)))
    return Predictor(classes, Preparation.from_json(about["preparation"]), nets, about["about"])


def initial(
    values: Mapping[str, Value],
    classes: int,
    example: Sequence[int],
    folds: int = 1,
    *,
    shapes: bool = False,
) -> dict[str, Any]:
    """``params`` and ``state`` of an untrained net of prepared examples of this shape, or their
    shapes alone."""
    model = LinenModel(module_of(values, classes, folds))

    def init() -> Any:
        batch = _batch(jnp.zeros((1, *example), jnp.float32))
        return model.init(jax.random.key(0), batch)

    params, state = jax.eval_shape(init) if shapes else init()
    return {"params": params, "state": state}


def _raised(line: str) -> None:
    raise CheckpointError(line)
