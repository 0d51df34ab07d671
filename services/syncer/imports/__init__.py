"""Importing files of leads: the rows read in windows, written, and counted."""
