"""The table of summaries, and the budgets of the model and of its users.

Everything here raises `UnavailableError` while PostgreSQL, or Redis for the budgets, is down, and
`TransientError` for what another try may do.
"""
