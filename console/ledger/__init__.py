"""The ledger: whether everything that was accepted is somewhere, to the event.

`log` reads what was appended and what became of it, with `raw` and `envelopes` for what the ledger's
own records do not tell; `landed` asks the store; `weigh` brings both together chunk by chunk, and
`balance` settles each; `route` answers.
"""
