"""The gateway: a request's way from the socket to the log, one file a step."""
