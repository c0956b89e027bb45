"""The only side effects: studies, comparisons and paths are trained and recorded here."""
