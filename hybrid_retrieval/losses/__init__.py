"""Vectors to loss."""
