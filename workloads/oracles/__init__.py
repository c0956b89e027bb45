"""Exact answers: recursions whose truth is known, the oracles of the whole pipeline."""
