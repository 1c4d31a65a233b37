"""The config registry from the command line: pushing, watching, comparing."""
