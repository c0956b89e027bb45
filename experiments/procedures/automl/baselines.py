"""Two classifiers of scikit-learn with default settings, on the same examples."""

from __future__ import annotations

import dataclasses
import time
import warnings

from experiments.diagnostics.ensemble_selection import cross_entropy
from experiments.procedures.automl.data import Examples


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A classifier on the test split.

    Attributes:
      name: its class.
      errors: wrong test examples.
      cross_entropy: of its probabilities, in nats.
      seconds: of training it.
      note: what it warned of.
    """

    name: str
    errors: int
    cross_entropy: float
    seconds: float
    note: str


def baselines(examples: Examples, seed: int) -> list[Baseline]:
    """Trained on all examples besides test: they choose nothing by validation.

    Inputs are prepared as the nets' are, and flattened.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    x, y = examples.development
    test, labels = examples.splits["test"]
    found = []
    for model in (LogisticRegression(), MLPClassifier(random_state=seed)):
        began = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(x.reshape(len(x), -1), y)
        seconds = time.perf_counter() - began
        shares = model.predict_proba(test.reshape(len(test), -1))
        errors = int((shares.argmax(axis=1) != labels).sum())
        note = "it did not converge in its iterations" if caught else ""
        name = type(model).__name__
        found.append(Baseline(name, errors, cross_entropy(shares, labels), seconds, note))
    return found
