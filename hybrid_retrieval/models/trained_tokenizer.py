"""The tokenizer of models that bring none: trained on the training text, once, and cached."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

from tokenizers import Tokenizer

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.models.encoder import TrainingText
from hybrid_retrieval.models.tokenization import train_unigram
from hybrid_retrieval.values import Range

log = logging.getLogger(__name__)

Vocabulary = Annotated[int, Range(0, 1 << 22, above=True)]
"""Tokens that a tokenizer is trained to have."""

VERSION = 2
CHARACTERS = 500_000
"""Training text of each language, in characters."""


def trained_tokenizer(training_text: TrainingText, vocabulary: int, paths: PathsConfig, romanize: bool = False) -> Tokenizer:
    """A unigram tokenizer of up to `vocabulary` tokens over a balanced sample of the languages."""

    def make(directory: Path) -> None:
        texts = training_text.sample(CHARACTERS)
        log.info("training a tokenizer of %d tokens on %d texts", vocabulary, len(texts))
        train_unigram(texts, vocabulary, romanize).save(str(directory / "tokenizer.json"))

    key = {"version": VERSION, "vocabulary": vocabulary, "characters": CHARACTERS, "text": training_text.key}
    key |= {"romanize": True} if romanize else {}
    return Tokenizer.from_file(str(Cache.at(paths.cache).build("tokenizers", key, make) / "tokenizer.json"))


def information(tokenizer: Tokenizer) -> list[float]:
    """[vocabulary]: -log p of each token of a unigram tokenizer, in nats; 0 of those that stand for no text."""
    return [-score for _, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
