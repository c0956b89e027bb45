"""One of two processes that train a study together, to be killed: the member without its parent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from checkpoint_child import watched
from engine_factory import tiny_study

from experiments import cli
from experiments.commands.several import MEMBER


def pair_study():
    """Two trials, one after the other; adam has a state of two trees."""
    return tiny_study(
        name="pair",
        optimizer="adam",
        batch_sizes=(16,),
        step_budget=100,
        example_budget=512,
        trials=2,
        space={"learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"}},
        record_norms="every",
    )


def run_member(folder: Path, index: int, arguments: list[str], environ: dict[str, str]) -> None:
    """The command ``batchscale`` as process ``index``, last states and stderr into its folder."""
    os.environ.update(environ)
    os.environ[MEMBER] = str(os.open(os.devnull, os.O_WRONLY))
    mine = folder / str(index)
    mine.mkdir(parents=True, exist_ok=True)
    with watched(mine / "ends"), open(mine / "stderr", "w") as errors:
        os.dup2(errors.fileno(), sys.stdout.fileno())
        os.dup2(errors.fileno(), sys.stderr.fileno())
        code = cli.main([*arguments, "--process-id", str(index)])
        sys.stdout.flush()
    os._exit(code)  # as the real one ends, without interpreter shutdown
