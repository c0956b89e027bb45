"""Fashion-MNIST, Simple CNN (base): one of the workloads of Shallue et al. 2019, Figure 1."""

from workloads.base import Goal, Workload

WORKLOAD = Workload(
    name="fashion_mnist_cnn",
    dataset="fashion_mnist",
    model="workloads.models.simple_cnn:simple_cnn",
    model_options={"width": "base", "classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:scale_bytes",
    goal=Goal("classification_error", 0.10),
    search_spaces={
        "nesterov": {
            "learning_rate": {"type": "real", "low": 1e-4, "high": 1.0, "scale": "log"},
            "momentum": {"type": "real", "low": 0.5, "high": 0.999, "scale": "reverse_log"},
        },
    },
    note="goal and split sizes: Shallue et al. 2019; layer sizes as commonly reproduced; "
    "search spaces are ours",
)
