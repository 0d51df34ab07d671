"""The summaries and the budget of model calls."""
