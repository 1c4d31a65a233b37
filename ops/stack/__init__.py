"""The local stack: a real broker and our own processes as supervised children."""
