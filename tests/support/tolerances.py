"""How far apart two computations of one number may lie, and why."""

FLOAT32 = 1e-6
"""A few roundings of float32 (each 6e-8), relative or of numbers of order one."""
FLOAT32_SUMS = 1e-5
"""Sums of some hundred float32 terms, added in another order."""
FLOAT32_SOLVES = 1e-4
"""Matrix roots, second derivatives and whole networks in float32."""
FLOAT64 = 1e-12
"""A few thousand roundings of float64 (each 1e-16)."""
FLOAT64_SUMS = 1e-9
"""Iterations and differences in float64, which lose some digits on the way."""
BFLOAT16 = 2.0**-8
"""One rounding to bfloat16."""
