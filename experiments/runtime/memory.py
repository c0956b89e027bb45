"""Memory: whether an error says that it is full, what a device has left."""

from __future__ import annotations

import jax

from experiments.runtime import platform


def out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that memory is full, on the device or on the host."""
    exhausted = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return exhausted or isinstance(error, MemoryError)


def device_bytes() -> tuple[int, str]:
    """(bytes that arrays and programs may take from now on, what says so).

    An accelerator's allocator knows its limit; a CPU has the host's memory.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0)), "the device"
    return platform.available_bytes()
