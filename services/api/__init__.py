"""The REST API: HTTP in, events out, replies back. Reads PostgreSQL and writes none of it."""
