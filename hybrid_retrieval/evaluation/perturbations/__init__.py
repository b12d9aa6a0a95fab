"""Queries as people type them: one file a perturbation."""
