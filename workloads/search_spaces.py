"""Default search ranges that several workloads share, as plain data (experiments/spec/space.py)."""

from __future__ import annotations

from typing import Any

Range = dict[str, Any]


def log(low: float, high: float) -> Range:
    """Uniform in the logarithm."""
    return {"type": "real", "low": low, "high": high, "scale": "log"}


def reverse_log(low: float, high: float) -> Range:
    """1 - value uniform in the logarithm: for a momentum near one."""
    return {"type": "real", "low": low, "high": high, "scale": "reverse_log"}


def choice(*values: float) -> Range:
    """One of these, each as likely."""
    return {"type": "choice", "values": list(values)}


def momentum_spaces(low: float, high: float) -> dict[str, dict[str, Range]]:
    """Plain SGD, momentum and Nesterov, with the learning rate in [low, high].

    Plain SGD's rate goes ten times higher: it is an effective rate, where momentum's is
    multiplied by 1 / (1 - momentum).
    """
    with_momentum = {"learning_rate": log(low, high), "momentum": reverse_log(0.5, 0.999)}
    return {
        "sgd": {"learning_rate": log(low, 10 * high)},
        "momentum": with_momentum,
        "nesterov": with_momentum,
    }
