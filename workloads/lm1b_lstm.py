"""One Billion Word Benchmark, an LSTM with projection: Shallue et al. 2019, Figure 1."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="lm1b_lstm",
    dataset="lm1b",
    dataset_options={"validation_examples": 8_192},
    model="workloads.models.lstm:lstm_lm",
    model_options={"vocabulary": 32_000},
    losses="workloads.losses:LANGUAGE_MODEL",
    goal=Goal("cross_entropy", 3.9),
    hyperparameters={"dropout_rate": 0.0},
    search_spaces=momentum_spaces(1e-2, 10.0),
    note="goal (nats per subword): Shallue et al. 2019, whose vocabulary is another; vocabulary, "
    "sequence length, splits, the 8,192 validation sentences measured, sizes and search spaces "
    "are ours",
)
