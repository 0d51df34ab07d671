"""Writes summaries of leads: the only caller of a language model."""
