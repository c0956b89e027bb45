"""The Tuning Playbook's procedures: each plans studies and decides from their records."""
