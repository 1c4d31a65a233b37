"""A load generator that costs little: real request bodies, many events, an exact account of what was acknowledged."""
