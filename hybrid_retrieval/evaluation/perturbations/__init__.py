"""Queries as people type them: one way to be wrong a file."""
