"""Optimizers, which move the parameters: hyperparameters -> optax.GradientTransformation."""

from optimizers.averaging_table import AVERAGINGS
from optimizers.base import Averaging, Clipping, Optimizer
from optimizers.clipping_table import CLIPPINGS
from optimizers.coordinates import Coordinate
from optimizers.table import OPTIMIZERS
from workloads.registry import Hyperparameter

__all__ = [
    "AVERAGINGS",
    "CLIPPINGS",
    "OPTIMIZERS",
    "Averaging",
    "Clipping",
    "Coordinate",
    "Hyperparameter",
    "Optimizer",
]
