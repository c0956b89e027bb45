"""How fast one accelerator trains small nets: one trial after the other, and packed.

    python -m benchmarks.accelerator [--out FILE] [--minutes M] [--nets NAME ...] [--tiny]
                                     [--images X.npy --labels Y.npy]

Runs on a bare machine with jax, flax, optax, orbax and numpy. Per net and batch size, trial-steps
per second by loop, by scan and by scan with packs of several sizes, as a study would run them (no
evaluations); the share of the peak of a matrix product that this device reaches at the same
precision; seconds to compile; memory predicted and used. For the Simple CNN, further, packs whose
convolution is lowered in every way there is (`LOWERINGS`). Images are random unless given ([n, 28,
28] or [n, 28, 28, 1] uint8 and [n] labels, such as Fashion-MNIST's); seeds are fixed. What does not
fit in memory or in M minutes is named, not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import workloads
from benchmarks.machine import write_json
from experiments.planning import feasibility
from experiments.runtime.memory import out_of_memory
from experiments.spec.study import Study
from experiments.spec.trial import Precision, Trial
from experiments.training.feed import ResidentData
from experiments.training.layout import Execution, Mode
from experiments.training.order import trial_keys
from experiments.training.program import Program
from experiments.training.state import gather, init_state
from experiments.training.step import make_step
from workloads.models import convolution

NETS = {
    "digits_fc": ((64,), (1, 16, 64, 512)),
    "fashion_mnist_fc": ((28, 28, 1), (16, 64, 512)),
    "fashion_mnist_cnn": ((28, 28, 1), (16, 32, 512, 4096)),
    "text_transformer": ((64,), (8, 64, 512)),
}
"""Workload -> shape of an input, batch sizes."""
PACKS = (8, 32, 128)
LOWERED_PACKS = (8, 32)
RATE = 1e-6  # nothing diverges
EXAMPLES = 8192
MODES: tuple[Mode, ...] = ("scan", "loop")


def images(shape: tuple[int, ...], given: tuple[Path, Path] | None) -> dict[str, np.ndarray]:
    """``inputs`` and ``targets``: made up, or of the files."""
    if given and shape == (28, 28, 1):
        inputs, targets = (np.load(path) for path in given)
        inputs = inputs.reshape(-1, 28, 28, 1).astype(np.uint8)
        return {"inputs": inputs, "targets": targets.astype(np.int32)}
    random = np.random.default_rng(0)
    if shape == (64,):
        inputs = random.random((EXAMPLES, *shape), np.float32)
    else:
        inputs = random.integers(0, 256, (EXAMPLES, *shape), np.uint8)
    return {"inputs": inputs, "targets": random.integers(0, 10, EXAMPLES, np.int32)}


def tokens(length: int) -> dict[str, np.ndarray]:
    """Random characters, the targets one on."""
    text = np.random.default_rng(1).integers(0, 97, (EXAMPLES, length + 1), np.uint8)
    return {"inputs": text[:, :-1].copy(), "targets": text[:, 1:].copy()}


def make_program(
    name: str, precision: Precision, given: tuple[Path, Path] | None, tiny: bool
) -> tuple[Program, Callable[[int, int], Trial]]:
    """The engine's programs of a net, and (batch size, index) -> a trial without an end."""
    workload, (shape, _) = workloads.get(name), NETS[name]
    if tiny and name == "fashion_mnist_cnn":
        workload = dataclasses.replace(workload, model_options={"width": "narrow"})
        shape = (8, 8, 1)
    if tiny and name == "text_transformer":
        small = {"layers": 1, "width": 8, "feed_forward": 16, "heads": 2}
        options = {**workload.model_options, **small}
        workload, shape = dataclasses.replace(workload, model_options=options), (8,)
    data = tokens(shape[0]) if name == "text_transformer" else images(shape, given)
    splits = {"train": data, "validation": {role: x[:256] for role, x in data.items()}}
    study = Study(name, "How fast?", workload, (1,), 1, 1, "momentum", precision=precision).resolved
    values = {key: value or RATE for key, value in study.hyperparameters.items()}
    values |= {"learning_rate": RATE, "momentum": 0.9}
    program = Program(study.config("off"), ResidentData.put(splits, 256), 1e4)

    def trial(batch_size: int, index: int) -> Trial:
        return Trial(batch_size, 0, index, 100_000_000, values, "")

    return program, trial


def engine_row(
    program: Program,
    trial: Callable[[int, int], Trial],
    batch_size: int,
    execution: Execution,
) -> dict[str, Any]:
    """One execution of the engine: compiled, predicted, timed."""
    began = time.perf_counter()
    predicted = feasibility.predict(program, trial(batch_size, 0), execution)
    compiled = time.perf_counter() - began
    before = _peak()
    trials = [trial(batch_size, index) for index in range(execution.slots)]
    chunks, share = feasibility.step_seconds(program, trials, execution)
    seconds = statistics.median(chunks)
    used = _peak()
    return {
        "seconds_per_step": seconds,
        "input_share": share,
        "flops_per_second": predicted.flops / execution.slots / seconds,
        "compile_seconds": None if execution.mode == "loop" else compiled,
        "predicted_bytes": predicted.resident_bytes + predicted.program_bytes,
        # The allocator's peak never falls: it is this row's where this row has raised it.
        "used_bytes": used if used > before else None,
    }


def _peak() -> int:
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("peak_bytes_in_use", 0))


# Packs of the Simple CNN, its convolution lowered in every way.


def by_patches(x: Any, kernel: Any, strides: Any = (1, 1), padding: Any = "SAME") -> jax.Array:
    """`workloads.models.convolution.convolve` as patches times a matrix."""
    height, width, channels, features = kernel.shape
    patches = jax.lax.conv_general_dilated_patches(
        x, (height, width), strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )  # [..., C kh kw], channels first
    matrix = kernel.transpose(2, 0, 1, 3).reshape(channels * height * width, features)
    return patches @ matrix


def by_shifts(x: Any, kernel: Any, strides: Any = (1, 1), padding: Any = "SAME") -> jax.Array:
    """The same as one matrix product per place of the kernel, summed."""
    size, (height, width) = (x.shape[1], x.shape[2]), kernel.shape[:2]
    pads = convolution.explicit_padding(padding, size, (height, width), strides)
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows = size[0] + sum(pads[0]) - height + 1
    columns = size[1] + sum(pads[1]) - width + 1
    total = None
    for i in range(height):
        for j in range(width):
            part = padded[:, i : i + rows : strides[0], j : j + columns : strides[1]]
            product = part @ kernel[i, j]
            total = product if total is None else total + product
    return total


def by_the_compiler(x: Any, kernel: Any, strides: Any = (1, 1), padding: Any = "SAME") -> jax.Array:
    """XLA's convolution with XLA's gradients."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def unrolled(step: Callable[..., Any]) -> Callable[..., Any]:
    """``vmap`` as a Python loop."""

    def all_steps(states: Any, rows: Any) -> Any:
        taken = [step(jax.tree.map(lambda x, i=i: x[i], states), rows[i]) for i in range(len(rows))]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *taken)

    return all_steps


def mapped(step: Callable[..., Any]) -> Callable[..., Any]:
    """``vmap`` as a loop on the device."""
    return lambda states, rows: jax.lax.map(lambda pair: step(*pair), (states, rows))


LOWERINGS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "engine": (convolution.convolve, jax.vmap),
    "compiler": (by_the_compiler, jax.vmap),
    "patches": (by_patches, jax.vmap),
    "shifts": (by_shifts, jax.vmap),
    "map": (convolution.convolve, mapped),
    "unrolled": (convolution.convolve, unrolled),
}
"""Name -> the convolution, and how a pack's trials are laid beside each other."""


@contextlib.contextmanager
def replaced(convolve: Callable[..., Any]) -> Iterator[None]:
    """The models' convolution is another one while programs are traced."""
    before = convolution.convolve
    convolution.convolve = convolve
    try:
        yield
    finally:
        convolution.convolve = before


def lowering_row(
    program: Program, trial: Trial, slots: int, lowering: str, seconds: float
) -> dict[str, Any]:
    """Steps of a pack inside one loop on the device, its convolution lowered so."""
    convolve, lay = LOWERINGS[lowering]
    config, values = program.config, program.numbers(trial.hyperparameters)
    size, steps = trial.batch_size, 64
    rows = np.random.default_rng(2).integers(0, program.examples, (steps, slots, size))

    def one(state: Any, row: Any) -> Any:
        return make_step(config)(state, values, gather(program.train, row))[0]

    @jax.jit
    def start(keys: Any) -> Any:
        first = gather(program.train, jnp.zeros([1], jnp.int32))
        return jax.vmap(lambda k: init_state(config, k, values, np.int32(1), first))(keys)

    def many(states: Any, rows: Any, count: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda i, s: lay(one)(s, rows[i]), states)

    with replaced(convolve):
        states = start(np.stack([trial_keys(0, i) for i in range(slots)]))
        began = time.perf_counter()
        run = jax.jit(many, donate_argnums=0).lower(states, rows.astype(np.int32), 1).compile()
        compiled = time.perf_counter() - began
    stream, times, count = jax.device_put(rows.astype(np.int32)), [], 1
    ended = time.perf_counter() + seconds
    while len(times) < 4 or time.perf_counter() < ended:
        began = time.perf_counter()
        states = run(states, stream, count)
        jax.block_until_ready(states)
        times.append((time.perf_counter() - began) / count / slots)
        count = min(steps, max(1, round(seconds / 8 / (times[-1] * slots))))
    return {"seconds_per_step": min(times[1:]), "compile_seconds": compiled}


# All of it.


@dataclasses.dataclass
class AcceleratorRows:
    """Rows so far, what was left out, and the time that is left."""

    deadline: float
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)

    def add(self, row: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        """A row, printed; or why there is none."""
        name = f"{row['net']} B = {row['batch_size']} {row['execution']} x {row['slots']}"
        if time.perf_counter() > self.deadline:
            self.left_out.append(f"{name}: no time left")
            return
        try:
            found = measure()
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.left_out.append(f"{name}: out of memory")
            return
        self.rows.append({**row, **found, "steps_per_second": 1 / found["seconds_per_step"]})
        print(f"{name}: {self.rows[-1]['steps_per_second']:,.0f} steps/s", flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows; the plainest executions of every net first, so that a deadline cuts the rest."""
    precision = Precision(options.dtype, options.dtype, options.matmul)
    given = (options.images, options.labels) if options.images else None
    peak = feasibility.rates(options.dtype, options.matmul)
    print(
        f"matrix product {peak['flops'] / 1e12:.3g} TFLOP/s, memory {peak['bytes'] / 1e9:.3g} GB/s"
    )
    bench = AcceleratorRows(time.perf_counter() + 60 * options.minutes)
    made = {name: make_program(name, precision, given, options.tiny) for name in options.nets}
    packs = (2,) if options.tiny else PACKS
    for slots in (1, *packs):
        for name, (program, trial) in made.items():
            for size in (4,) if options.tiny else NETS[name][1]:
                for mode in MODES if slots == 1 else ("packed",):
                    row = {"net": name, "batch_size": size, "execution": mode, "slots": slots}
                    bench.add(
                        row,
                        functools.partial(engine_row, program, trial, size, Execution(mode, slots)),
                    )
    if "fashion_mnist_cnn" in made:
        program, trial = made["fashion_mnist_cnn"]
        for size in (4,) if options.tiny else (16, 32, 512):
            for slots in packs if options.tiny else LOWERED_PACKS:
                for lowering in LOWERINGS:
                    if lowering == "unrolled" and slots > 8:
                        continue
                    row = {"net": "fashion_mnist_cnn", "batch_size": size}
                    row |= {"execution": f"lowered by {lowering}", "slots": slots}
                    bench.add(
                        row,
                        lambda b=size, n=slots, w=lowering: lowering_row(
                            program, trial(b, 0), n, w, 0.05 if options.tiny else 0.5
                        ),
                    )
    _shares(bench.rows, peak["flops"])
    return {
        "tiny": options.tiny,
        "precision": dataclasses.asdict(precision),
        "images": "given" if given else "random",
        "rates": peak,
        "rows": bench.rows,
        "left_out": bench.left_out,
    }


def _shares(rows: Sequence[dict[str, Any]], peak: float) -> None:
    """Adds the share of the peak, and the throughput over one trial at a time by scan."""
    alone = {(r["net"], r["batch_size"]): r for r in rows if r["execution"] == "scan"}
    for row in rows:
        scan = alone.get((row["net"], row["batch_size"]))
        if scan is None:
            continue
        row["over_scan"] = scan["seconds_per_step"] / row["seconds_per_step"]
        if "flops_per_second" not in row:
            row["flops_per_second"] = scan["flops_per_second"] * row["over_scan"]
        row["share_of_peak"] = row["flops_per_second"] / peak


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows, short."""
    lines = [
        f"{'net':18} {'B':>5} {'execution':>20} {'pack':>4} {'steps/s':>9} {'/scan':>6} "
        + f"{'peak':>6} {'compile':>8}"
    ]
    for r in rows:
        shares = f"{r.get('over_scan', 0):6.2f} {r.get('share_of_peak', 0):6.1%}"
        compiled = f"{r['compile_seconds']:6.1f} s" if r["compile_seconds"] else ""
        lines.append(
            f"{r['net']:18} {r['batch_size']:5} {r['execution']:>20} {r['slots']:4} "
            f"{r['steps_per_second']:9,.0f} {shares} {compiled}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("accelerator.json"), metavar="FILE")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin nothing new after these")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--images", type=Path, metavar="X.npy")
    parser.add_argument("--labels", type=Path, metavar="Y.npy")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--matmul", choices=("default", "high", "highest"), default="highest")
    parser.add_argument("--tiny", action="store_true", help="to see that it runs, not how fast")
    options = parser.parse_args(arguments)
    if (options.images is None) != (options.labels is None):
        parser.error("--images and --labels go together")
    if options.tiny:
        feasibility.MEASURED_SECONDS = 0.05
    with tempfile.TemporaryDirectory() as folder:  # what was examined is not compiled again
        if not (options.tiny and jax.config.jax_compilation_cache_dir):  # its seconds are shown
            jax.config.update("jax_compilation_cache_dir", folder)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        results = measure(options)
    print(table(results["rows"]))
    for line in results["left_out"]:
        print(f"left out: {line}")
    print(f"written: {write_json(options.out, results)}")


if __name__ == "__main__":
    main()
