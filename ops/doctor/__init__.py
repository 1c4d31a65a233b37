"""What is installed, what runs, what is wrong, and how to mend it."""
