"""scikit-learn's digits, a small fully connected net: real data, no download, any CPU."""

from workloads.base import Goal, Workload

WORKLOAD = Workload(
    name="digits_fc",
    dataset="digits",
    model="workloads.models.fully_connected:fully_connected",
    model_options={"hidden_sizes": [64, 64], "classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    goal=Goal("classification_error", 0.04),
    search_spaces={
        "nesterov": {
            "learning_rate": {"type": "real", "low": 1e-4, "high": 1.0, "scale": "log"},
            "momentum": {"type": "real", "low": 0.5, "high": 0.999, "scale": "reverse_log"},
        },
    },
    note="sizes, goal and search spaces are ours",
)
