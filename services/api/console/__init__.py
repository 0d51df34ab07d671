"""The web console: its files as browsers load them, and what serves them."""
