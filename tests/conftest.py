"""Strict flags for every test, set before jax is imported and inherited by child processes."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).parents[1]

# Arrays of unequal rank are never broadcast in silence.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# What one test compiles the next run finds. One folder a worker: jax writes its entries in place,
# and a half-written one, read by a neighbour, is a warning and so an error.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "compiled" / _worker)
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# LLVM's first level: the same programs of XLA, compiled in half the time.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=1 " + os.environ.get("XLA_FLAGS", "")

settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")
