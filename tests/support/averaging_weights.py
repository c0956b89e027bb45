"""The weight of every iterate in an average, oldest first."""

import numpy as np


def exponential_weights(t):
    return 0.9 ** np.arange(t - 1, -1, -1)


WEIGHTS = {
    "none": lambda t: np.arange(t) == t - 1,
    "ema": exponential_weights,
    "tail_mean": lambda t: np.arange(1, t + 1) > min(4, t - 1),
    "window_mean": lambda t: np.arange(1, t + 1) > t - 5,
}
