"""Memory: whether an error says that it is full, what a device has left."""

from __future__ import annotations

import jax

from experiments.runtime import platform

FULL = ("RESOURCE_EXHAUSTED", "YNNPACK operation failed")
"""What an error of XLA's says where memory is full; the second one where the system refuses it to a
kernel of the CPU's, which gives no reason."""


def out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that memory is full, on the device or on the host."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return any(words in str(error) for words in FULL)
    return isinstance(error, MemoryError)


def device_bytes() -> tuple[int, str]:
    """(bytes that arrays and programs may take from now on, what says so).

    An accelerator's allocator knows its limit; a CPU has the host's memory.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0)), "the device"
    return platform.available_bytes()
