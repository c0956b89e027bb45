"""Do small batches find flatter and better minima than large ones in Keskar's net F2?

Command:   batchscale run small_and_large_timit --data-dir FOLDER    (an accelerator)
           batchscale run small_and_large_timit --smoke              (a narrow net on made-up data)
Time:      not measured; ten trials of 100 epochs of 649,197 frames.
Expected:  Keskar et al. (2017, Tables 2 and 3): test errors of 36 and 41 %, full-space sharpness at
           epsilon 1e-3 of 1.4 and 311.

The corpus is licensed: the frames are your own, as workloads/datasets/timit.py says. Otherwise as
small_and_large_keskar.
"""

import dataclasses

from experiments.studies.small_and_large_keskar import member, miniature
from workloads.datasets.timit import SIZES
from workloads.keskar import F2

STUDY = dataclasses.replace(
    member("small_and_large_timit", "F2", F2, SIZES["train"]),
    question="Do small batches find flatter and better minima than large ones in Keskar's net F2?",
    expected="Larger errors and sharper minima at the large batch (Keskar et al. 2017).",
)

_SMALLER = dataclasses.replace(
    miniature(F2, (360,), 16), preprocess="workloads.preprocessing:scale_bytes"
)
SMOKE = dataclasses.replace(
    STUDY,
    name="small_and_large_timit-smoke",
    workload=_SMALLER,
    batch_sizes=(32, 128),
    seeds=(0,),
    example_budget=256,
    record_curvature=2,
    train_evaluation_examples=64,
)
