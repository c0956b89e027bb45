"""Should a residual block normalize its branch or its sum?

Command:   batchscale run residual_norm_text             (an accelerator)
           batchscale run residual_norm_text --smoke     (two CPU cores)
Time:      2 minutes of CPU time in miniature; not run in full.
Expected:  x + Norm(f(x)) trains at rates at which Norm(x + f(x)) does not, and ends no higher: the
           sum that is normalized has no path on which gradients pass unchanged (Tuning Playbook).

Momentum 0.9 at constant rates, no warmup, no clipping; a Transformer on characters of the King
James Bible. The smoke variant has six layers of width 32 and reads windows of 32 characters.
"""

from experiments.studies.sweeps import FULL_TRANSFORMER, SMALL_TRANSFORMER, placements, swept

QUESTION = "Should a residual block normalize its branch or its sum?"
EXPECTED = (
    "x + Norm(f(x)) trains at rates at which Norm(x + f(x)) does not, and ends no higher (Tuning "
    "Playbook)."
)
PLACEMENTS = ("post_branch", "post")

STUDY = swept(
    "residual_norm_text",
    QUESTION,
    EXPECTED,
    placements(PLACEMENTS, FULL_TRANSFORMER),
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
    placements(
        PLACEMENTS,
        SMALL_TRANSFORMER,
        sequence_length=32,
        train_examples=8192,
        validation_examples=256,
    ),
    rates=(5e-3, 2e-2, 8e-2, 0.32, 1.28),
    batch_size=16,
    steps=100,
    seeds=(0, 1),
    optimizer="momentum",
    fixed={"momentum": 0.9},
    evaluation_spacing=0.3,
    train_evaluation_examples=256,
)
