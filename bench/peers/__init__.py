"""What others build of well-known parts to create leads; each runs in an environment of its own."""
