"""A trained encoder as other programs take it."""
