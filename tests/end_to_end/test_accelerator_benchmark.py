"""benchmarks/accelerator.py: complete, with jax, flax, optax, orbax and numpy alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tolerances import FLOAT32_SUMS

from benchmarks import accelerator
from workloads.models.convolution import convolve

ROOT = Path(__file__).parents[2]

# What a bare machine lacks is refused, whoever asks for it: whatever is not the standard library,
# our packages, or of the five distributions and what they need themselves.
BARE = """
import importlib.abc, re, sys
from importlib import metadata

def needs(name, seen):
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in seen:
        return seen
    seen.add(name)
    try:
        wanted = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return seen
    for text in wanted:
        if "extra ==" not in text:
            needs(re.match(r"[A-Za-z0-9._-]+", text)[0], seen)
    return seen

there = set()
for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
    needs(name, there)
owners = metadata.packages_distributions()
foreign = {
    module for module, names in owners.items()
    if not {re.sub(r"[-_.]+", "-", n).lower() for n in names} & (there | {"batchscale"})
}
assert {"polars", "sklearn", "altair", "PIL", "tensorflow_datasets"} <= foreign

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in foreign:
            raise ModuleNotFoundError(f"No module named {name!r} on a bare machine", name=name)

sys.meta_path.insert(0, Refuse())
from benchmarks import accelerator
accelerator.main(sys.argv[1:])
"""


def test_it_runs_on_a_bare_machine_and_measures_every_execution_and_lowering(tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", random.integers(0, 256, (300, 28, 28), np.uint8))
    np.save(tmp_path / "y.npy", random.integers(0, 10, 300))
    out = tmp_path / "found.json"
    options = ["--tiny", "--nets", "digits_fc", "fashion_mnist_cnn", "--out", str(out)]
    options += ["--images", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "y.npy")]
    done = subprocess.run(
        [sys.executable, "-c", BARE, *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["left_out"] == [] and found["tiny"] and found["rates"]["flops"] > 0
    assert found["machine"]["versions"]["jax"]
    how = {(row["net"], row["execution"], row["slots"]) for row in found["rows"]}
    modes = {("scan", 1), ("loop", 1), ("packed", 2)}
    assert how == {
        *(("digits_fc", *mode) for mode in modes),
        *(("fashion_mnist_cnn", *mode) for mode in modes),
        *(("fashion_mnist_cnn", f"lowered by {name}", 2) for name in accelerator.LOWERINGS),
    }
    for row in found["rows"]:
        assert row["steps_per_second"] > 0 and row["over_scan"] > 0
        assert 0 < row["share_of_peak"] < 2  # an unoptimised product is not much of a peak
    assert len(done.stdout.splitlines()) < 60


@pytest.mark.parametrize("name", ["by_patches", "by_shifts", "by_the_compiler"])
@pytest.mark.parametrize(("strides", "padding"), [((1, 1), "SAME"), ((2, 1), "VALID")])
def test_every_lowering_is_the_same_convolution(name, strides, padding):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 6, 7, 3))
    kernel = jax.random.normal(keys[1], (3, 2, 3, 4))
    expected = convolve(x, kernel, strides, padding)
    found = getattr(accelerator, name)(x, kernel, strides, padding)
    np.testing.assert_allclose(found, expected, atol=FLOAT32_SUMS)


def test_a_pack_laid_out_otherwise_makes_the_same_steps():
    def step(state, row):
        return state * jnp.sum(row)

    states, rows = jnp.arange(3.0), jnp.arange(6.0).reshape(3, 2)
    expected = jax.vmap(step)(states, rows)
    for lay in (accelerator.mapped, accelerator.unrolled):
        np.testing.assert_array_equal(lay(step)(states, rows), expected)
