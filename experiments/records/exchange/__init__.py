"""Records that others can read, and records of others: the batch_science layout, CSV, Parquet."""
