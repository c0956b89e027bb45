"""A character language model on local text: a small pre-norm Transformer."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="text_transformer",
    dataset="text",
    dataset_options={"tokens": "characters", "sequence_length": 64},
    model="workloads.models.transformer:transformer_lm",
    model_options={
        "vocabulary": 97,
        "layers": 2,
        "width": 64,
        "feed_forward": 256,
        "heads": 4,
        "placement": "pre",
    },
    losses="workloads.losses:LANGUAGE_MODEL",
    goal=Goal("cross_entropy", 1.6),
    hyperparameters={"dropout_rate": 0.0},
    search_spaces=momentum_spaces(1e-3, 3.0),
    note="sizes, goal (nats per character of the King James Bible) and search spaces are ours",
)
