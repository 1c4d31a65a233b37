"""The demo: a real SDK sends through the local stack, and every event it logged is looked for in the store."""
