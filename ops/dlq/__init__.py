"""Dead letters: choosing them, mending them, sending them again.

`scan` reads the topics and `letters` says which record speaks for an event; `choose` is the filter, `fix`
the rules that change an event's bytes; `reenter` makes of a letter what its stage takes; `predict` runs
the stages' own code over it; `replay` sends, `settle` waits for what becomes of it.
"""
