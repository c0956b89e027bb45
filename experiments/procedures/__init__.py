"""The Tuning Playbook's procedures: each plans studies, decides from their records, says what next."""
