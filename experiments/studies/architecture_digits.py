"""Which cell of four nodes reads scikit-learn's digits best?

Command:   batchscale run architecture_digits
           batchscale plan architecture_digits
           batchscale run architecture_digits --smoke
Time:      45 s on two busy cores, 17 CPU-seconds, much of it the compilation of the one program.
Expected:  an error of the best trial near 0.07, which is luck: its cell's mean over seeds is 0.12.
           Two seeds of one cell differ by more than good cells do, so that the order of the best
           says little.

Edges are nothing, relu or an affine map of 8 features: 261 cells differ. Regularised evolution asks
for eight at a time; all are one compiled program. docs/architecture_search.md has the table of all
of them, ten seeds each.
"""

from __future__ import annotations

from experiments.search.architecture.cells import every_edge
from experiments.search.architecture.question import architecture_search
from workloads.architectures import Skeleton

SPACE = every_edge(4, ("none", "relu", "affine"), shape=(8,))
SKELETON = Skeleton((64,), 10, width=8, stem="affine")

STUDY = architecture_search(
    SPACE,
    SKELETON,
    strategy="evolution",
    at_once=8,
    trials=64,
    budget=20,
    workload="digits_fc",
    schedule="cosine",
    fixed={"learning_rate": 3e-3},
    batch_size=32,
    name="architecture_digits",
    question="Which cell of four nodes reads scikit-learn's digits best?",
    expected="Good cells differ by less than two seeds of one cell do.",
)

SMOKE = architecture_search(
    every_edge(3, ("none", "relu", "affine"), shape=(4,)),
    Skeleton((64,), 10, width=4, stem="affine"),
    strategy="evolution",
    settings={"population": 4},
    at_once=2,
    trials=6,
    budget=1,
    workload="digits_fc",
    fixed={"learning_rate": 3e-3},
    batch_size=128,
    name="architecture_digits-smoke",
)
