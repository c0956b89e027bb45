"""Hyperparameters to try: points of the unit cube, rebuilt from the record at any time."""
