"""Evaluation texts in the training text, found before anything is trained."""
