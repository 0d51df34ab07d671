"""Everything `make run` starts on a machine that has neither servers nor accounts."""
