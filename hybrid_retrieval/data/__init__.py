"""Text and where it comes from: parallel pairs in Arrow, their sources, their tokens."""
