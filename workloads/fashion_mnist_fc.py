"""Fashion-MNIST, fully connected: the sister of fashion_mnist_cnn that a CPU can carry."""

from workloads.base import Goal, Workload

WORKLOAD = Workload(
    name="fashion_mnist_fc",
    dataset="fashion_mnist",
    model="workloads.models.fully_connected:fully_connected",
    model_options={"hidden_sizes": [128, 128, 128], "classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:scale_bytes",
    goal=Goal("classification_error", 0.13),
    search_spaces={
        "nesterov": {
            "learning_rate": {"type": "real", "low": 1e-4, "high": 1.0, "scale": "log"},
            "momentum": {"type": "real", "low": 0.5, "high": 0.999, "scale": "reverse_log"},
        },
    },
    note="hidden sizes: FC 128x3 of Shallue et al. 2019 (there on MNIST); goal and search "
    "spaces are ours",
)
