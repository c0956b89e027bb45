"""Strict flags for every test, set before jax is imported and inherited by child processes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support import machine

ROOT = Path(__file__).parents[1]

# Workers and children import what was compiled before, also where an environment asks for no
# bytecode, as those of containers do: compiling all tests anew takes a worker five seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Arrays of unequal rank are never broadcast in silence.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# What one test compiles, its children, the other workers and the next run find. jax writes its
# entries in place: whoever reads a half-written one compiles anew; see the warning in pyproject.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# The suite's time is compilation's: without LLVM's optimisation, and with XLA's older way to write
# fused loops, a program takes a third of it. What a user's programs do is checked by `make soak`.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
os.environ["XLA_FLAGS"] = f"{QUICK_COMPILATION} {os.environ.get('XLA_FLAGS', '')}"
# Nor does every operation of a program carry the lines of Python that it comes from.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")

DESELECTED = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    # What a shell puts in the background begins, with its children, with interrupts ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[DESELECTED] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that need what this machine does not have: see support/machine.py.

    A test needs what its marker ``needs`` names, and the fixtures of these names.
    """
    kept, left_out = [], []
    for item in items:
        marked = [name for mark in item.iter_markers("needs") for name in mark.args]
        names = {*marked, *machine.NEEDS} & {*marked, *getattr(item, "fixturenames", ())}
        absent = machine.lacking(sorted(names))
        if absent is not None:
            config.stash[DESELECTED][absent] += 1
        (kept if absent is None else left_out).append(item)
    if left_out:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """What is collected stays: the garbage of a trace is looked for without going through it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """The last line says what was left out. A worker of xdist tells its controller."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = dict(config.stash[DESELECTED])
    yield
    if not hasattr(config, "workeroutput") and config.stash[DESELECTED]:
        reporter = config.pluginmanager.getplugin("terminalreporter")
        reporter.write_line(machine.closing_line(config.stash[DESELECTED]))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Every worker collects all tests, so that one's count is the count."""
    del error
    node.config.stash[DESELECTED] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for one file of tests: Playwright holds an event loop that others may not find."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update"]
    program = machine.browser_program()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=options)
        yield running
        running.close()


@pytest.fixture(scope="session")
def fashion_mnist() -> dict[str, Path]:
    """Array name -> Fashion-MNIST's IDX file."""
    files = machine.fashion_mnist_files()
    assert files is not None
    return files


@pytest.fixture(scope="session")
def bible() -> list[str]:
    """The verses of the King James Bible."""
    text = machine.bible_text()
    assert text is not None
    return text.decode().splitlines()
