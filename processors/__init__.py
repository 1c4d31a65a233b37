"""From the log to the store: the worker (dedupe, map) and the lander, one file a step."""
