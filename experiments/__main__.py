"""``python -m experiments`` is the command ``batchscale``."""

from experiments.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
