"""How a step moves the parameters: hyperparameters -> optax.GradientTransformation."""

from optimizers.base import Hyperparameter, Optimizer
from optimizers.table import OPTIMIZERS

__all__ = ["OPTIMIZERS", "Hyperparameter", "Optimizer"]
