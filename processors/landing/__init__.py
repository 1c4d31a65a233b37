"""What the lander does with a batch, in the order it does it.

`gather` takes records from the log, `batch` reads them, `suspects` says which may have landed,
`readback` asks the store, `insert` puts the rest there, `dead_letters` keeps what cannot land.
"""
