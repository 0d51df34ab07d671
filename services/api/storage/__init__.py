"""What only the API reads from PostgreSQL, and notes in Redis."""
