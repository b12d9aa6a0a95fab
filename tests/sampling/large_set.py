"""A set of 100 million pairs in 9 languages, and samplers of every kind."""

import numpy as np

from hybrid_retrieval.sampling.availability import Availability, SetAvailability
from hybrid_retrieval.sampling.hybrid import Hybrid, HybridWithinBatch
from hybrid_retrieval.sampling.sampler import XY

PAIRS = 100_000_000
LANGUAGES = ("ar", "de", "en", "es", "hi", "ru", "th", "vi", "zh")


def parallel(patterns):
    """A set that is complete (one pattern), or ragged in that many ways."""
    rng = np.random.default_rng(1)
    masks = rng.integers(1, 512, (2, patterns)).astype(np.uint64)
    masks[:, 0] = 511
    bounds = np.concatenate([[0], np.cumsum(rng.dirichlet(np.full(patterns, 0.3)) * PAIRS)]).astype(np.int64)
    bounds[-1] = PAIRS
    return Availability([SetAvailability("large", LANGUAGES, *masks, bounds[:-1], bounds[1:])])


SAMPLERS = {
    "hybrid": lambda size: Hybrid(size),
    "coin": lambda size: Hybrid(size, ratio_mode="bernoulli", schedule={"kind": "cosine", "end": 0.1}),
    "within": lambda size: HybridWithinBatch(size, schedule={"kind": "linear", "end": 0.1}),
    "by size": lambda size: XY(size, language_choice="size"),
}
