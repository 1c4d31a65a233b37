"""The archive from the outside: replayed, compared, and rid of what must not be kept."""
