"""Samplers, one a file: points of the unit cube as functions of seed and index."""
