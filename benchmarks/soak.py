"""Checks too long for the test suite: ``make soak`` runs them all, or name some.

    python -m benchmarks.soak [CHECK ...] [--kills N]

Each check is a function of this module that raises AssertionError where its fact does not hold.
What the checks said goes to benchmarks/results/soak.json, one entry a check.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import RESULTS, write_results
from experiments.training.order import ExampleOrder, permuted

LM1B_EXAMPLES = 30_301_028
"""Training examples of LM1B, the largest set of the registry."""
ORDER_NANOSECONDS = 55
"""What sorting a random word an example costs at the size of Fashion-MNIST."""
SOAK_KEY = 0x0123456789ABCDEF


def is_permutation(size: int, key: int, epoch: int) -> bool:
    """Whether an epoch's images are 0 .. size - 1, each once; a bit an example is kept."""
    seen = np.zeros(size, bool)
    for first in range(0, size, 1 << 16):
        places = np.arange(first, min(first + (1 << 16), size))
        seen[permuted(key, np.array([epoch]), places, size)[0]] = True
    return bool(seen.all())


def example_order() -> str:
    """The order of LM1B's examples is a permutation, in three epochs."""
    for epoch in (0, 1, 1000):
        assert is_permutation(LM1B_EXAMPLES, SOAK_KEY, epoch), epoch
    return f"{LM1B_EXAMPLES:,} examples, epochs 0, 1 and 1000"


def example_order_rate() -> str:
    """The order costs less an example than `ORDER_NANOSECONDS`, at every size."""
    costs = []
    for size in (1000, 60_000, 1_281_167):
        count = max(size, 1 << 16)
        order = ExampleOrder(0, 0, size)
        computed = _seconds(lambda order=order, count=count: order.take(count)) / count
        sorted_words = _seconds(lambda size=size: _argsort(size)) / size
        assert computed * 1e9 < ORDER_NANOSECONDS, (size, computed, sorted_words)
        costs.append(f"{size:,}: {computed * 1e9:.0f} ns, sorting {sorted_words * 1e9:.0f} ns")
    return "; ".join(costs)


def _argsort(size: int) -> np.ndarray:
    return np.argsort(np.random.Philox(key=1).random_raw(size), kind="stable")


def _seconds(f: Callable[[], object]) -> float:
    """The least of five."""
    best = np.inf
    for _ in range(5):
        began = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - began)
    return float(best)


KILLS = 100


def kills_while_recording(kills: int) -> str:
    """kill -9 at random moments of a study that commits at every turn: nothing is lost."""
    _with_tests()
    from support.kill_storms import assert_equals_its_twin, killed_while_recording

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        killed_while_recording(folder / "killed", kills, seed=20260)
        assert_equals_its_twin(folder / "killed", folder / "twin")
    return f"{kills} kills, the record is the undisturbed one's"


def kills_while_training(kills: int) -> str:
    """kill -9 at random moments of long trials: parameters are equal to the last bit."""
    _with_tests()
    from support.checkpoint_child import run_long_study
    from support.kill_storms import killed_while_training

    with tempfile.TemporaryDirectory() as name:
        undisturbed, folder = Path(name) / "undisturbed", Path(name) / "killed"
        undisturbed.mkdir()
        folder.mkdir()
        run_long_study(undisturbed, checkpoint_minutes=float("inf"))
        resumed = killed_while_training(folder, undisturbed, kills, seed=15)
    assert resumed > kills / 2, f"{kills} kills, but only {resumed} trials went on"
    return f"{kills} kills, {resumed} trials went on, every bit is the undisturbed one's"


def kills_while_writing(kills: int) -> str:
    """kill -9 at random moments of commits and compactions: every committed row, once."""
    _with_tests()
    from support.records_kills import STORMS, kill_storm

    said = []
    for storm, options in STORMS.items():
        with tempfile.TemporaryDirectory() as name:
            in_a_write = kill_storm(Path(name), options, kills)
        assert in_a_write > 0, f"{storm}: none of {kills} kills hit a write"
        said.append(f"{storm}: {kills} kills, {in_a_write} of them in a write")
    return "; ".join(said)


def _with_tests() -> None:
    """The studies that are killed lie with the tests; children must find them too."""
    tests = str(Path(__file__).parents[1] / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))


def engine_as_compiled_by_default() -> str:
    """Tests of the engine, with the programs a user's machine compiles (see tests/conftest.py)."""
    flags = "--xla_backend_optimization_level=3 --xla_llvm_disable_expensive_passes=false"
    environ = {**os.environ, "XLA_FLAGS": f"{flags} --xla_cpu_use_fusion_emitters=true"}
    tests = Path(__file__).parents[1] / "tests" / "training"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", str(tests)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith("FAILED ")]
    assert done.returncode == 0, "; ".join([*failed, lines[-1]])
    return lines[-1]


def tfds_round_trip() -> str:
    """Fashion-MNIST written as TFDS's own and read again: every array is that of the files."""
    from workloads.datasets import tfds_images
    from workloads.datasets.fashion_mnist import FASHION_MNIST
    from workloads.datasets.idx_images import read_files

    _with_tests()
    from support.machine import fashion_mnist_files

    files = fashion_mnist_files()
    assert files is not None, "Fashion-MNIST is not on this machine: make data"
    with tempfile.TemporaryDirectory() as name:
        tfds_images.prepare(FASHION_MNIST, files, Path(name))
        prepared = tfds_images.read(FASHION_MNIST, Path(name))
    for role, array in read_files(FASHION_MNIST, files).items():
        assert np.array_equal(prepared[role], array), role
    return f"{sum(map(len, prepared.values())) // 2:,} images"


CHECKS: dict[str, Callable[[int], str]] = {
    "engine_as_compiled_by_default": lambda kills: engine_as_compiled_by_default(),
    "example_order": lambda kills: example_order(),
    "example_order_rate": lambda kills: example_order_rate(),
    "kills_while_writing": kills_while_writing,
    "kills_while_recording": kills_while_recording,
    "kills_while_training": kills_while_training,
    "tfds_round_trip": lambda kills: tfds_round_trip(),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named checks, by default all; 1 where one does not hold, 2 for an unknown name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    parser.add_argument("--kills", type=int, default=KILLS, help="of each storm of kills")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.checks if name not in CHECKS]
    if unknown:
        print(f"unknown check {unknown[0]!r} (known: {', '.join(CHECKS)})", file=sys.stderr)
        return 2
    failed, found = 0, _known()
    for name in options.checks or CHECKS:
        began = time.perf_counter()
        try:
            said, holds = CHECKS[name](options.kills), True
        except AssertionError as error:
            failed, said, holds = 1, f"FAILED: {error}", False
        seconds = round(time.perf_counter() - began)
        print(f"{name} ({seconds} s): {said}", flush=True)
        found[name] = {"holds": holds, "seconds": seconds, "said": said}
        write_results("soak", {"checks": found})
    return failed


def _known() -> dict[str, dict[str, object]]:
    """What the checks that are not run now found before."""
    path = RESULTS / "soak.json"
    return dict(json.loads(path.read_text())["checks"]) if path.exists() else {}


if __name__ == "__main__":
    raise SystemExit(main())
