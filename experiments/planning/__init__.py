"""Plans of how trials are executed, and of what fits: measured, then recorded."""
