"""Which architecture to evaluate next: strategies as pure functions of the results so far."""
