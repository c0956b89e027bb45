"""How a step moves the parameters: hyperparameters -> optax.GradientTransformation."""

from optimizers.base import Clipping, Hyperparameter, Optimizer
from optimizers.clipping_table import CLIPPINGS
from optimizers.table import OPTIMIZERS

__all__ = ["CLIPPINGS", "OPTIMIZERS", "Clipping", "Hyperparameter", "Optimizer"]
