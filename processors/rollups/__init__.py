"""Who was exposed first, and the numbers of experiments: made anew for a day whenever it changed."""
