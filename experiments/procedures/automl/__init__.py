"""From a data set to a predictor and a report, within a budget: see `automl.automl`."""
