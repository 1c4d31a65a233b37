"""The live stream: exposures from the log to whoever watches, in a fraction of a second.

In the order of an event: `hub` reads the log, `look` makes it readable with `decode` (accepted), `rejects`
and `copies` (duplicates, whose events are `as_sent`), the viewers' `filters` choose, and `sse` frames it.
`replay` reads what was before.
"""
