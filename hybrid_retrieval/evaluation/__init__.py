"""Multilingual retrieval measured in three settings from one pass over the scores; knows nothing of training."""
