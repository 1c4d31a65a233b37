"""The live stream: exposures from the log to whoever watches, in a fraction of a second.

In the order of an event: `follow` reads it from Kafka, `decode` makes it readable, `hub` hands it to
the viewers, whose `filters` choose, and `sse` frames it. `replay` reads what was before.
"""
