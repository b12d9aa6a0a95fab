"""Which pairs meet in a batch: index arithmetic on availability, without text and without torch.

A batch is a pure function of (seed, step): world size, workers and prefetching cannot change it, and resuming is one
integer. Randomness comes from counters (a keyed permutation), never from the state of a generator.
"""
