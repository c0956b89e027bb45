"""Sequences of a made-up Markov chain, a small Transformer: the best loss is ln 4 = 1.386."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="synthetic_tokens",
    dataset="synthetic_tokens",
    model="workloads.models.transformer:transformer_lm",
    model_options={"vocabulary": 64, "layers": 1, "width": 32, "feed_forward": 64, "heads": 2},
    losses="workloads.losses:LANGUAGE_MODEL",
    goal=Goal("cross_entropy", 1.5),
    search_spaces=momentum_spaces(1e-3, 3.0),
    note="data, goal and search spaces are ours",
)
