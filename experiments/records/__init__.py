"""The durable record of a study: one writer, Parquet parts, readable by anything."""
