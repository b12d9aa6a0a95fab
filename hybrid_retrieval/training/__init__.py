"""Lightning: batches, the module, its optimizer, checkpoints and processes."""
