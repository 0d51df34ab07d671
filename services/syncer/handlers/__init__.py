"""One module per event that the syncer consumes, named after it."""
