"""The OpenAPI document: how each operation is described, and what is made of it."""
