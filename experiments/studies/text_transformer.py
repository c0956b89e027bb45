"""How far does data parallelism scale for a character language model?

Command:   batchscale run text_transformer                       (an accelerator)
           batchscale run text_transformer --data-dir my.txt     (a text of your own)
           batchscale run text_transformer --smoke               (a CPU, two minutes)
Expected:  as for the Transformers of Shallue et al. (2019, Figure 1): perfect scaling up to some
           hundreds of sequences, then diminishing returns.

The text is the King James Bible of Debian's package bible-kjv unless --data-dir names another.
A small pre-norm Transformer reads windows of 64 characters; sizes, goal (nats per character),
search space and budgets are ours. The smoke variant trains one layer of width 32 and asks for 2.9
nats, fewer than the 3.15 of knowing how frequent every character is.
"""

import dataclasses

from experiments.spec.space import Real
from experiments.spec.study import Study
from workloads.base import Goal
from workloads.text_transformer import WORKLOAD

STUDY = Study(
    name="text_transformer",
    question="How far does data parallelism scale for a character language model?",
    expected="Perfect scaling, then diminishing returns (Shallue et al. 2019, Fig. 1).",
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=(8, 32, 128, 512, 2048, 8192),
    step_budget=1000,
    example_budget=4 * 61_936,
    trials=50,
)

SMOKE = dataclasses.replace(
    STUDY,
    name="text_transformer-smoke",
    workload=dataclasses.replace(
        WORKLOAD,
        model_options={
            **WORKLOAD.model_options,
            "layers": 1,
            "width": 32,
            "feed_forward": 128,
            "heads": 2,
        },
    ),
    goal=Goal("cross_entropy", 2.9),
    batch_sizes=(8, 32, 128),
    space={"learning_rate": Real(0.03, 1.0, "log"), "momentum": Real(0.5, 0.95, "reverse_log")},
    step_budget=64,
    example_budget=1024,
    trials=3,
    # 3,441 validation windows cost as much as some thirty steps at B = 32: evaluate at 1, 2, 4, ...
    evaluation_spacing=1.0,
)
