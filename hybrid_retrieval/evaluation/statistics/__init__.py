"""Intervals and tests that respect questions, their translations and seeds."""
