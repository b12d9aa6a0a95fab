"""Scores in blocks: ranks of judged documents, the best documents, stored embeddings."""
