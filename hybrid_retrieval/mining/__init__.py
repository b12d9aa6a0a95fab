"""Hard negatives for a training set, and a cross-encoder's scores of them."""
