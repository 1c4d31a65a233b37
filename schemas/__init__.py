"""The contracts of the pipeline: what travels, under which name, and within which limits.

Nothing here imports another package of Headrace; every other package imports this one.
"""
