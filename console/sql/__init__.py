"""Read-only SQL for people and programs: judge it, run it within limits, answer in a format."""
