"""One composition file per process: its stage, its servers, its end."""
