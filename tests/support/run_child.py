"""A study in a process of its own, committing often, for tests that kill it."""

from __future__ import annotations

from multiprocessing.synchronize import Event

from experiments.runner import coordinator
from experiments.runner import study as run
from support.engine_factory import tiny_study

PRELOADED = [
    "experiments.runner.study",
    "flax.linen",
    "orbax.checkpoint",
    "polars",
]
"""What the server that children are forked from has imported. It does not find tests/, and says
nothing of a module that it does not find."""


def killed_study():
    """Two batch sizes, six trials each, some of which diverge."""
    return tiny_study(
        step_budget=400,
        example_budget=3200,
        trials=6,
        space={
            "learning_rate": {"low": 1e-3, "high": 1000.0, "scale": "log"},
            "momentum": {"low": 0.5, "high": 0.99, "scale": "reverse_log"},
        },
        record_norms="every",
    )


def run_killed_study(folder: str, finished: Event) -> None:
    """What a child does; ``finished`` tells that it came to its end."""
    coordinator.COMMIT_SECONDS = 0.0
    run.run_study(killed_study(), folder, execution="scan")
    finished.set()
