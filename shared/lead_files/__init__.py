"""Leads as files: how they are written, read and imported."""
