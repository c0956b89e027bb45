"""Architectures as data: spaces, search strategies and learning curves; no jax."""
