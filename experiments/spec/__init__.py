"""Questions: the study, its trials and spaces, comparisons; frozen, checked, without jax."""
