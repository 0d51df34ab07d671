"""The operators' commands, one module each; the logic is in `shared`."""
