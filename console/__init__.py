"""The read side: the page, the live stream of exposures, experiments, and read-only SQL.

Follow a question in the order of the files: `shield` (who may ask), then `sql/`, `live/`,
`experiments` or `pipeline`, each of which answers with `answers`. `console` puts them together.
"""
