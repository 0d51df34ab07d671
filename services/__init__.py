"""The three services: each one a process of its own, scaled on its own."""
