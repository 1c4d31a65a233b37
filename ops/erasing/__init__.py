"""Taking one unit out of everything that can be changed, and saying what cannot."""
