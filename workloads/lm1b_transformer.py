"""One Billion Word Benchmark, a decoder-only Transformer: Shallue et al. 2019, in four sizes."""

import dataclasses

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="lm1b_transformer",
    dataset="lm1b",
    dataset_options={"validation_examples": 8_192},
    model="workloads.models.transformer:transformer_lm",
    model_options={"vocabulary": 32_000, "size": "base"},
    losses="workloads.losses:LANGUAGE_MODEL",
    goal=Goal("cross_entropy", 3.9),
    hyperparameters={"dropout_rate": 0.1},
    search_spaces=momentum_spaces(1e-3, 3.0),
    note="goal (nats per subword): Shallue et al. 2019, whose vocabulary is another; vocabulary, "
    "sequence length, splits, the 8,192 validation sentences measured, dropout and search spaces "
    "are ours",
)


def _of_size(size: str) -> Workload:
    return dataclasses.replace(
        WORKLOAD,
        name=f"lm1b_transformer_{size}",
        model_options={**WORKLOAD.model_options, "size": size},
        note=f"{WORKLOAD.note}; so are the sizes",
    )


SHALLOW = _of_size("shallow")
NARROW_AND_SHALLOW = _of_size("narrow_and_shallow")
WIDE = _of_size("wide")
