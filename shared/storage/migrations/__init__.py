"""The schema, and how it is brought up to date while services go on with their work."""
