"""Does a deep net train without normalization where its residual branches start at zero?

Command:   batchscale run rezero_depth             (an accelerator; CIFAR-10)
           batchscale run rezero_depth --smoke     (digits, two CPU cores)
Time:      2 minutes of CPU time in miniature; not run in full.
Expected:  with ReZero, x + alpha f(x) and alpha = 0 at first, it trains at rates at which the plain
           sum does not, and ends lower (Bachlechner et al. 2020; Tuning Playbook).

WideResNets without any normalization, momentum 0.9 at constant rates: 64 layers on CIFAR-10, in the
smoke variant 28 narrow ones on 8 x 8 digits. Without normalization the plain sum about doubles the
variance with every block. (A first smoke variant, 40 layers for 120 steps, ended at errors of 34 %
and 59 %: too short to tell.)
"""

import dataclasses
from typing import Any

from experiments.studies.sweeps import swept
from workloads.base import Workload
from workloads.cifar10_wide_resnet import WORKLOAD
from workloads.digits_wide_resnet import WORKLOAD as SMALL

QUESTION = "Does a deep net train without normalization where its residual branches start at zero?"
EXPECTED = (
    "With ReZero it trains at rates at which the plain sum does not, and ends lower (Bachlechner "
    "et al. 2020)."
)


def _members(net: Workload, **sizes: int) -> dict[str, dict[str, Any]]:
    def workload(start: str) -> Workload:
        options = {"normalization": "none", "residual_start": start}
        return dataclasses.replace(
            net,
            name=f"{net.name}_{start}",
            model_options={**net.model_options, **sizes, **options},
            search_spaces={},
        )

    return {start: {"workload": workload(start)} for start in ("standard", "rezero")}


STUDY = swept(
    "rezero_depth",
    QUESTION,
    EXPECTED,
    _members(WORKLOAD, depth=64),
    rates=(1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3),
    batch_size=128,
    steps=10_000,
    seeds=(0, 1, 2),
    optimizer="momentum",
    fixed={"momentum": 0.9},
)

SMOKE = swept(
    "rezero_depth-smoke",
    QUESTION,
    EXPECTED,
    _members(SMALL, depth=28, width=4),
    rates=(1e-3, 1e-2, 2e-2, 4e-2, 8e-2, 0.16),
    batch_size=32,
    steps=250,
    seeds=(0, 1),
    optimizer="momentum",
    fixed={"momentum": 0.9},
    evaluation_spacing=0.1,
)
