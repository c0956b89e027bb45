"""Training curves: one pure step, compiled once per (configuration, plan), many trials at a time.

This room imports jax, flax, optax, orbax, numpy, the standard library and the rooms below it
only, so that it runs on a bare accelerator machine.
"""
