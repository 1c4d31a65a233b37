"""Running Headrace: settings, the command line, the local stack, one composition file per process."""
