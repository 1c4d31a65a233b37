"""Exposures as a file for a warehouse: asked piece by piece, sent as it comes."""
