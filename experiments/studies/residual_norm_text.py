"""Should a residual block normalize its branch or its sum?

Command:   batchscale run residual_norm_text             (an accelerator)
           batchscale run residual_norm_text --smoke     (two CPU cores)
Time:      2 minutes of CPU time in miniature; not run in full.
Expected:  x + Norm(f(x)) trains at rates at which Norm(x + f(x)) does not, and ends no higher: the
           sum that is normalized has no path on which gradients pass unchanged (Tuning Playbook).

Momentum 0.9 at constant rates, no warmup, no clipping; a Transformer on characters of the King
James Bible. The smoke variant has six layers of width 32 and reads windows of 32 characters.
"""

import dataclasses
from typing import Any

from experiments.studies.sweeps import swept
from workloads.text_transformer import WORKLOAD

QUESTION = "Should a residual block normalize its branch or its sum?"
EXPECTED = (
    "x + Norm(f(x)) trains at rates at which Norm(x + f(x)) does not, and ends no higher (Tuning "
    "Playbook)."
)
FULL = {"layers": 12, "width": 256, "feed_forward": 1024, "heads": 8}
SMALL = {"layers": 6, "width": 32, "feed_forward": 64, "heads": 2}


def _members(sizes: dict[str, int], **data: int) -> dict[str, dict[str, Any]]:
    def workload(placement: str) -> Any:
        return dataclasses.replace(
            WORKLOAD,
            name=f"text_transformer_{placement}",
            model_options={**WORKLOAD.model_options, **sizes, "placement": placement},
            dataset_options={**WORKLOAD.dataset_options, **data},
            search_spaces={},
        )

    return {placement: {"workload": workload(placement)} for placement in ("post_branch", "post")}


STUDY = swept(
    "residual_norm_text",
    QUESTION,
    EXPECTED,
    _members(FULL),
    rates=(1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
    batch_size=128,
    steps=5000,
    seeds=(0, 1, 2),
    optimizer="momentum",
    fixed={"momentum": 0.9},
)

SMOKE = swept(
    "residual_norm_text-smoke",
    QUESTION,
    EXPECTED,
    _members(SMALL, sequence_length=32, train_examples=8192, validation_examples=256),
    rates=(5e-3, 2e-2, 8e-2, 0.32, 1.28),
    batch_size=16,
    steps=100,
    seeds=(0, 1),
    optimizer="momentum",
    fixed={"momentum": 0.9},
    evaluation_spacing=0.3,
    train_evaluation_examples=256,
)
