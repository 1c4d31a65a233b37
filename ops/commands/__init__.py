"""One module per group of commands; each has `register(app)`, and `ops.cli` finds them by being here."""
