"""One training step of each workload: this engine's beside a plain Flax and Optax loop.

    python -m benchmarks.workloads [--quick] [--workloads NAME ...] [--repeats R]

Per workload and batch size, examples/s of (inside) the engine's step in a loop on the device,
(outside) the same step called once a step, (plain) a jitted step as one writes it by hand, called
once a step and, where PyTorch is installed, (torch) the same net there. Called in turn, medians;
what counts are the ratios. Inputs are random, of the workload's shape. Some ten minutes on two
quiet cores; --quick is one batch size each for a moment. Results go to
benchmarks/results/workloads.json (with --quick: workloads_quick.json).
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import workloads
from benchmarks.machine import alternated, write_results
from benchmarks.plain_nets import PlainNet, plain_net
from experiments.spec.study import Study
from experiments.training.order import trial_keys
from experiments.training.state import gather, init_state
from experiments.training.step import make_step

CASES: dict[str, tuple[tuple[int, ...], str, tuple[int, ...], tuple[int, ...]]] = {
    "digits_fc": ((64,), "float32", (), (16, 64, 256)),
    "fashion_mnist_fc": ((28, 28, 1), "uint8", (), (16, 64, 256)),
    "fashion_mnist_cnn": ((28, 28, 1), "uint8", (), (16, 64, 256)),
    "cifar10_resnet8": ((32, 32, 3), "uint8", (), (16, 64, 256)),
    "text_transformer": ((64,), "tokens", (64,), (8, 32, 128)),
    "text_lstm": ((64,), "tokens", (64,), (8, 32, 128)),
}
"""Workload -> shape and kind of an input, shape of a target, batch sizes."""
EXAMPLES = 512
RATE = {"learning_rate": 1e-3, "momentum": 0.9}
MOST_STEPS = 500
Run = Callable[[int], Any]
"""Makes so many steps."""


def random_data(shape: tuple[int, ...], kind: str, target: tuple[int, ...]) -> dict[str, Any]:
    """``inputs`` and ``targets`` of `EXAMPLES` examples, on the device."""
    random = np.random.default_rng(0)
    inputs = {
        "float32": lambda: random.random((EXAMPLES, *shape), np.float32),
        "uint8": lambda: random.integers(0, 256, (EXAMPLES, *shape), np.uint8),
        "tokens": lambda: random.integers(0, 90, (EXAMPLES, *shape), np.uint8),
    }[kind]()
    targets = random.integers(0, 10, (EXAMPLES, *target)).astype(np.int32)
    return jax.device_put({"inputs": inputs, "targets": targets})


def engine_runs(name: str, data: dict[str, Any], stream: np.ndarray) -> dict[str, Run]:
    """``inside`` and ``outside``: steps on ``stream`` [`MOST_STEPS`, B], as in the engine."""
    study = Study(name, "How fast?", workloads.get(name), (1,), 1, 1, optimizer="momentum").resolved
    settings = {**study.hyperparameters, **RATE}
    values = {key: np.float32(value) for key, value in settings.items()}
    config = study.config("off")
    step = make_step(config)
    example = gather(data, jnp.zeros([1], jnp.int32))

    @jax.jit  # not eagerly: equal scalars would share one buffer, which cannot be donated twice
    def start() -> Any:
        return init_state(config, trial_keys(0, 0), values, np.int32(1_000_000), example)

    def one(state: Any, values: Any, data: Any, indices: Any) -> Any:
        return step(state, values, gather(data, indices))[0]

    def many(state: Any, values: Any, data: Any, stream: Any, count: Any) -> Any:
        def body(i: Any, state: Any) -> Any:
            return one(state, values, data, stream[i])

        return jax.lax.fori_loop(0, count, body, state)

    alone, looped = jax.jit(one, donate_argnums=0), jax.jit(many, donate_argnums=0)
    states = {"inside": start(), "outside": start()}

    def inside(count: int) -> None:
        states["inside"] = looped(states["inside"], values, data, stream, np.int32(count))
        jax.block_until_ready(states["inside"])

    def outside(count: int) -> None:
        for indices in stream[:count]:
            states["outside"] = alone(states["outside"], values, data, indices)
        jax.block_until_ready(states["outside"])

    return {"inside": inside, "outside": outside}


def plain_run(net: PlainNet, data: dict[str, Any], stream: np.ndarray) -> Run:
    """``plain``: a step by `jax.value_and_grad` and `optax.sgd`, called once a step."""
    rule = optax.sgd(RATE["learning_rate"], momentum=RATE["momentum"])

    def step(state: Any, data: Any, indices: Any) -> Any:
        params, velocity = state
        batch = {role: array[indices] for role, array in data.items()}
        _, grads = jax.value_and_grad(net.loss)(params, batch)
        updates, velocity = rule.update(grads, velocity, params)
        return optax.apply_updates(params, updates), velocity

    jitted = jax.jit(step, donate_argnums=0)
    params = net.init({role: array[:1] for role, array in data.items()})
    box = [(params, rule.init(params))]

    def run(count: int) -> None:
        for indices in stream[:count]:
            box[0] = jitted(box[0], data, indices)
        jax.block_until_ready(box[0])

    return run


def measure(name: str, batch_size: int, seconds: float, repeats: int) -> dict[str, Any]:
    """A row: examples/s of each way, and the ratios of seconds."""
    shape, kind, target, _ = CASES[name]
    data = random_data(shape, kind, target)
    order = np.random.default_rng(1).integers(0, EXAMPLES, (MOST_STEPS, batch_size))
    stream = order.astype(np.int32)
    runs = {**engine_runs(name, data, stream), "plain": plain_run(plain_net(name), data, stream)}
    if importlib.util.find_spec("torch"):
        from benchmarks.torch_nets import torch_run

        runs["torch"] = torch_run(name, data, stream, **RATE)

    def median_seconds(steps: int, repeats: int) -> dict[str, float]:
        return alternated({k: functools.partial(run, steps) for k, run in runs.items()}, repeats)

    median_seconds(1, 1)  # compiles
    probe = median_seconds(2, 3)
    steps = max(2, min(MOST_STEPS, round(seconds / probe["outside"])))
    times = median_seconds(steps, repeats)
    row: dict[str, Any] = {"workload": name, "batch_size": batch_size, "steps": steps}
    row["examples_per_second"] = {k: steps * batch_size / t for k, t in times.items()}
    row["inside_over_outside"] = times["inside"] / times["outside"]
    for other in times.keys() - {"inside", "outside"}:
        row[f"inside_over_{other}"] = times["inside"] / times[other]
        row[f"outside_over_{other}"] = times["outside"] / times[other]
    return row


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="to see that it runs, not how fast")
    options = parser.parse_args()
    rows = []
    for name in options.workloads:
        batch_sizes = CASES[name][3]
        for batch_size in batch_sizes[:1] if options.quick else batch_sizes:
            seconds, repeats = (0.05, 2) if options.quick else (0.5, options.repeats)
            row = measure(name, batch_size, seconds, repeats)
            rows.append(row)
            rates = "  ".join(f"{k} {v:,.0f}/s" for k, v in row["examples_per_second"].items())
            ratios = "  ".join(f"{k} {v:.2f}" for k, v in row.items() if "_over_" in k)
            print(f"{name} B = {batch_size}: {rates}  {ratios}", flush=True)
    file = "workloads_quick" if options.quick else "workloads"
    print(f"written: {write_results(file, {'rows': rows})}")


if __name__ == "__main__":
    main()
