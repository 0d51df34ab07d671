"""Contracts between the services, and what more than one entry point uses."""
