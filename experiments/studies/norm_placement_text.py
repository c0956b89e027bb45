"""Does a Transformer train at larger rates with its normalization inside the branches?

Command:   batchscale run norm_placement_text             (an accelerator)
           batchscale run norm_placement_text --smoke     (two CPU cores)
Time:      2 minutes of CPU time in miniature; not run in full.
Expected:  pre-norm, x + f(Norm(x)), trains at rates at which post-norm, Norm(x + f(x)), does not
           without warmup, and ends no higher (Tuning Playbook; Xiong et al. 2020).

Adam at constant rates, no warmup, no clipping; characters of the King James Bible. The smoke
variant has six layers of width 32 and reads windows of 32 characters.
"""

from experiments.studies.sweeps import FULL_TRANSFORMER, SMALL_TRANSFORMER, placements, swept

QUESTION = "Does a Transformer train at larger rates with its normalization inside the branches?"
EXPECTED = (
    "Pre-norm trains at rates at which post-norm does not without warmup, and ends no higher "
    "(Tuning Playbook; Xiong et al. 2020)."
)
PLACEMENTS = ("pre", "post")

STUDY = swept(
    "norm_placement_text",
    QUESTION,
    EXPECTED,
    placements(PLACEMENTS, FULL_TRANSFORMER),
    rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    batch_size=128,
    steps=5000,
    seeds=(0, 1, 2),
    optimizer="adam",
)

SMOKE = swept(
    "norm_placement_text-smoke",
    QUESTION,
    EXPECTED,
    placements(
        PLACEMENTS,
        SMALL_TRANSFORMER,
        sequence_length=32,
        train_examples=8192,
        validation_examples=256,
    ),
    rates=(2.5e-4, 1e-3, 4e-3, 1.6e-2, 6.4e-2),
    batch_size=16,
    steps=100,
    seeds=(0, 1),
    optimizer="adam",
    evaluation_spacing=0.3,
    train_evaluation_examples=256,
)
