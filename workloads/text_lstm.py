"""A byte language model on local text: a small LSTM with projection."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="text_lstm",
    dataset="text",
    dataset_options={"tokens": "bytes", "sequence_length": 64},
    model="workloads.models.lstm:lstm_lm",
    model_options={
        "vocabulary": 256,
        "layers": 1,
        "embedding": 32,
        "units": 128,
        "projection": 64,
    },
    losses="workloads.losses:LANGUAGE_MODEL",
    goal=Goal("cross_entropy", 1.8),
    hyperparameters={"dropout_rate": 0.0},
    search_spaces=momentum_spaces(1e-2, 10.0),
    note="sizes, goal (nats per byte of the King James Bible) and search spaces are ours",
)
