"""How far apart two computations of one number may lie, and why."""

import math

FLOAT32 = 1e-6
"""A few roundings of float32 (each 6e-8), relative or of numbers of order one."""
FLOAT32_SUMS = 1e-5
"""Sums of some hundred float32 terms, added in another order."""
FLOAT32_SOLVES = 1e-4
"""Matrix roots, second derivatives and whole networks in float32."""
FLOAT64_ROUNDING = 1e-14
"""A few dozen roundings of float64 (each 1e-16)."""
FLOAT64 = 1e-12
"""A few thousand of them."""
FLOAT64_SUMS = 1e-9
"""Iterations and differences in float64, which lose some digits on the way."""
BFLOAT16 = 2.0**-8
"""One rounding to bfloat16."""
ELEMENTWISE = 0.05
"""The share of a step's operations beside its matrix products: biases, losses, the update."""
WHOLE_NUMBERS = 0.5
TWO_DECIMALS = 5e-3
THREE_DECIMALS = 5e-4
FIVE_DECIMALS = 5e-6
"""Half a unit in the last place that is printed or published."""
SIX_DIGITS = 5e-6
"""The same of six significant digits, relative."""


def three_errors(share: float, draws: int) -> float:
    """Three standard errors of a share of so many independent draws."""
    return 3 * math.sqrt(share * (1 - share) / draws)
