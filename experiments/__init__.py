"""Batch-size scaling studies: a question, a search, training curves, records, analysis, a page."""
