"""How leads are written; nobody but the syncer writes them."""
