"""How trials are executed and what fits: measured, then recorded as a plan."""
