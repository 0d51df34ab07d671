"""The whole system, driven over HTTP. A package, so that its one stack ends with it."""
