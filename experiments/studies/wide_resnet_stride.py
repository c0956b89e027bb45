"""Does one stride of a WideResNet decide how large a rate trains, and does warmup give it back?

Command:   batchscale run wide_resnet_stride             (an accelerator; CIFAR-10)
           batchscale run wide_resnet_stride --smoke     (digits, two CPU cores)
Time:      3 minutes of CPU time in miniature; not run in full.
Expected:  as in Figure 4 of the Tuning Playbook: a stride of 1 in place of 2 where the last stage
           begins is harmless at low rates and unstable at high ones; 1,000 steps of warmup cure it.

Three nets over one sweep of a constant rate with momentum 0.9: WRN-16-4 as it is, with the stride
changed, and that with warmup. All train equally long, the warmup's steps included. The smoke
variant is a WRN-16 of 8, 16 and 32 filters on 8 x 8 digits, with 40 steps of warmup.
"""

import dataclasses
from typing import Any

from experiments.studies.sweeps import swept
from workloads.base import Goal, Workload
from workloads.cifar10_wide_resnet import UNIT_STRIDE, WORKLOAD
from workloads.digits_wide_resnet import UNIT_STRIDE as SMALL_UNIT_STRIDE
from workloads.digits_wide_resnet import WORKLOAD as SMALL

QUESTION = (
    "Does one stride of a WideResNet decide how large a rate trains, and does warmup give it back?"
)
EXPECTED = (
    "A stride of 1 is harmless at low rates and unstable at high ones; warmup cures it (Tuning "
    "Playbook, Figure 4)."
)


def _members(plain: Workload, changed: Workload, warmup: float) -> dict[str, dict[str, Any]]:
    one, other = (
        dataclasses.replace(workload, search_spaces={}, goal=Goal("classification_error", 0.1))
        for workload in (plain, changed)
    )
    held = {"momentum": 0.9}
    return {
        "stride_2": {"workload": one, "fixed": held},
        "stride_1": {"workload": other, "fixed": held},
        "stride_1_warmup": {"workload": other, "fixed": {**held, "warmup_steps": warmup}},
    }


STUDY = swept(
    "wide_resnet_stride",
    QUESTION,
    EXPECTED,
    _members(WORKLOAD, UNIT_STRIDE, 1000.0),
    rates=(0.0125, 0.05, 0.2, 0.4, 0.8, 1.6, 3.2),
    batch_size=256,
    steps=11_000,
    seeds=(0, 1, 2),
    optimizer="momentum",
)

SMOKE = swept(
    "wide_resnet_stride-smoke",
    QUESTION,
    EXPECTED,
    _members(SMALL, SMALL_UNIT_STRIDE, 40.0),
    rates=(0.02, 0.08, 0.32, 0.64, 1.28, 2.56),
    batch_size=64,
    steps=150,
    seeds=(0, 1),
    optimizer="momentum",
    evaluation_spacing=0.1,
)
