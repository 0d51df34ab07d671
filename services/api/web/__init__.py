"""What handlers share: bodies, queries, headers, pages, answers and problems."""
