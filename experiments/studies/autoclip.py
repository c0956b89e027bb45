"""Does AutoClip do what a fixed threshold does, without a threshold to choose?

Command:   batchscale run autoclip             (an accelerator; Fashion-MNIST)
           batchscale run autoclip --smoke     (digits, two CPU cores)
Time:      30 s of CPU time in miniature; not run in full.
Expected:  clipping at a percentile of the norms seen so far (Seetharaman et al. 2020) trains at the
           rates that the better of two fixed thresholds reaches, and at twice those without
           clipping.

A simple CNN on Fashion-MNIST, in the smoke variant a fully connected net on digits; momentum 0.9 at
constant rates. AutoClip clips at the 10th
percentile of all norms so far, its paper's; a window of 256 steps and the 90th percentile are what
`batchscale clip-threshold` compares with.
"""

import dataclasses
from typing import Any

from experiments.studies.sweeps import swept
from workloads.base import Workload
from workloads.digits_fc import WORKLOAD as SMALL
from workloads.fashion_mnist_cnn import WORKLOAD

QUESTION = "Does AutoClip do what a fixed threshold does, without a threshold to choose?"
EXPECTED = (
    "AutoClip trains at the rates that the better of two fixed thresholds reaches, and at twice "
    "those without clipping."
)
HELD = {"momentum": 0.9}
CLIPPINGS: dict[str, dict[str, Any]] = {
    "none": {"fixed": HELD},
    "fixed_1": {"clipping": "global_norm", "fixed": {**HELD, "clip_threshold": 1.0}},
    "fixed_0.25": {"clipping": "global_norm", "fixed": {**HELD, "clip_threshold": 0.25}},
    "autoclip": {"clipping": "autoclip", "fixed": {**HELD, "clip_percentile": 10.0}},
    "window_autoclip": {
        "clipping": "window_autoclip",
        "fixed": {**HELD, "clip_percentile": 90.0, "clip_window": 256.0},
    },
}


def _members(workload: Workload) -> dict[str, dict[str, Any]]:
    plain = dataclasses.replace(workload, search_spaces={})
    return {label: {"workload": plain, **own} for label, own in CLIPPINGS.items()}


STUDY = swept(
    "autoclip",
    QUESTION,
    EXPECTED,
    _members(WORKLOAD),
    rates=(0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8),
    batch_size=128,
    steps=5000,
    seeds=(0, 1, 2),
    optimizer="momentum",
)

SMOKE = swept(
    "autoclip-smoke",
    QUESTION,
    EXPECTED,
    _members(SMALL),
    rates=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
    batch_size=32,
    steps=600,
    seeds=(0, 1, 2, 3),
    optimizer="momentum",
)
