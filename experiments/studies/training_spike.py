"""Does clipping keep a rate that rises past the edge of stability from a mid-training spike?

Command:   batchscale run training_spike             (an accelerator; Fashion-MNIST)
           batchscale run training_spike --smoke     (digits, two CPU cores)
Time:      20 s of CPU time in miniature; not run in full.
Expected:  without clipping the loss falls, then jumps once the rate passes what the curvature
           allows; clipped it does not jump, and ends no higher (Tuning Playbook: clipping helps
           against early and mid-training instability).

The rate rises linearly over the whole of training to a peak, which is swept: a spike that is early
in a schedule at its peak comes in the middle of this one. Momentum 0.9; thresholds 1 and 0.25 of
the global norm. A simple CNN on Fashion-MNIST; in the smoke variant a fully connected net on
digits.
"""

import dataclasses
from typing import Any

from experiments.studies.sweeps import swept
from workloads.base import Workload
from workloads.digits_fc import WORKLOAD as SMALL
from workloads.fashion_mnist_cnn import WORKLOAD

QUESTION = (
    "Does clipping keep a rate that rises past the edge of stability from a mid-training spike?"
)
EXPECTED = (
    "Without clipping the loss falls and then jumps; clipped it does not, and ends no higher "
    "(Tuning Playbook)."
)


def _members(workload: Workload, steps: int) -> dict[str, dict[str, Any]]:
    plain = dataclasses.replace(workload, search_spaces={})
    held = {"momentum": 0.9, "warmup_steps": float(steps)}
    clipped = {"clipping": "global_norm"}
    return {
        "none": {"workload": plain, "fixed": held},
        "clipped_1": {"workload": plain, **clipped, "fixed": {**held, "clip_threshold": 1.0}},
        "clipped_0.25": {"workload": plain, **clipped, "fixed": {**held, "clip_threshold": 0.25}},
    }


STUDY = swept(
    "training_spike",
    QUESTION,
    EXPECTED,
    _members(WORKLOAD, 5000),
    rates=(0.1, 0.2, 0.4, 0.8, 1.6),
    batch_size=128,
    steps=5000,
    seeds=(0, 1, 2),
    optimizer="momentum",
)

SMOKE = swept(
    "training_spike-smoke",
    QUESTION,
    EXPECTED,
    _members(SMALL, 600),
    rates=(0.2, 0.4, 0.8, 1.6),
    batch_size=64,
    steps=600,
    seeds=(0, 1, 2, 3),
    optimizer="momentum",
    evaluation_spacing=0.02,
)
