"""Whether an experiment can be trusted: its units against the plan, and what else goes wrong with exposures."""
