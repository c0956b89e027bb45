"""Strategies that choose the next architecture: pure functions of the results so far."""
