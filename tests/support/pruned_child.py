"""A study with a pruner, in a process of its own that kills itself when so many jobs have ended.

python pruned_child.py FOLDER ENDED [ray]    (with ray, FOLDER.listens says at which addresses)
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from experiments.runner import coordinator
from experiments.runner.executors.cluster import Cluster
from experiments.runner.searches import Searches
from experiments.runner.study import run_study
from support.engine_factory import tiny_study
from support.ray_cluster import listens


def pruned_study(pruner="hyperband", **changes):
    """Two searches of nine trials at two batch sizes, some of which diverge."""
    settings = {
        "batch_sizes": (8, 64),
        "step_budget": 54,
        "example_budget": 512,
        "trials": 9,
        "seeds": (0, 1),
        "pruner": pruner,
        "pruner_resource": 9,
        "space": {
            "learning_rate": {"low": 1e-3, "high": 300.0, "scale": "log"},
            "momentum": {"low": 0.5, "high": 0.99, "scale": "reverse_log"},
        },
        **changes,
    }
    return tiny_study(**settings)


def one_bracket():
    """One search at one batch size: trials end or are put aside 13 times."""
    return pruned_study(batch_sizes=(64,), seeds=(0,))


if __name__ == "__main__":
    coordinator.COMMIT_SECONDS = 0.0
    left, end, ray = [int(sys.argv[2])], Searches.end, sys.argv[3:] == ["ray"]

    def dying(self, result):
        end(self, result)
        left[0] -= 1
        if left[0] == 0:
            if ray:
                Path(f"{sys.argv[1]}.listens").write_text("\n".join(listens(os.getpid())))
            os.kill(os.getpid(), signal.SIGKILL)

    Searches.end = dying
    if ray:
        run_study(one_bracket(), sys.argv[1], execution="scan", cluster=Cluster(None, {"cpus": 2}))
    else:
        run_study(pruned_study(), sys.argv[1], execution="scan")
