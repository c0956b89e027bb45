"""The machine: processes, compilation, memory, what is recorded of the environment."""
