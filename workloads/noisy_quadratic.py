"""The noisy quadratic model, sampled: its exact answer is known (oracles/recursions.py)."""

from workloads.base import Goal, Workload

WORKLOAD = Workload(
    name="noisy_quadratic",
    dataset="noisy_quadratic",
    model="workloads.models.noisy_quadratic:noisy_quadratic",
    model_options={"dimensions": 100, "power": 0.0},
    losses="workloads.losses:OWN_LOSS",
    goal=Goal("loss", 0.01),
    search_spaces={
        "sgd": {"learning_rate": {"type": "real", "low": 1e-3, "high": 2.0, "scale": "log"}},
        "momentum": {
            "learning_rate": {"type": "real", "low": 1e-5, "high": 2.0, "scale": "log"},
            "momentum": {"type": "real", "low": 0.5, "high": 0.999, "scale": "reverse_log"},
        },
        "nesterov": {
            "learning_rate": {"type": "real", "low": 1e-5, "high": 2.0, "scale": "log"},
            "momentum": {"type": "real", "low": 0.5, "high": 0.999, "scale": "reverse_log"},
        },
    },
    note="model and goal: Zhang et al. 2019, there with 10,000 dimensions; 100 dimensions and "
    "the search spaces are ours",
)
