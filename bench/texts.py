"""The text of the rows that encode: question-passage pairs of mixed lengths, and a small model over them.

Pairs come from SQuAD in parallel languages where HYBRID_RETRIEVAL_DATA has it, else from the documentation corpus where it can
be had without the network, else they are generated. Every question and every passage comes once, so that no mask is at work
and both sides compute the same loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.data.sources.libreoffice_help import LibreOfficeHelp
from hybrid_retrieval.data.sources.synthetic import Synthetic
from hybrid_retrieval.models.tokenization import Tokenization
from hybrid_retrieval.models.trained_tokenizer import trained_tokenizer

LONGEST = 256
"""Tokens of a text, special ones included."""
VOCABULARY = 32_000
SHAPE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
SMALL = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8, "intermediate_size": 1024}
"""For the rows of large batches, so that a row takes minutes on two cores."""
HELP_LANGUAGES = ["de", "el", "en", "es", "fr", "hi", "it", "ja", "ko", "ru", "tr", "vi", "zh"]
PAIRS = 2048
SIMILAR = 0.06
"""Texts of similar lengths: this share of the pairs, those whose passages are nearest to the median length."""


def paths() -> PathsConfig:
    """As the commands have them."""
    return PathsConfig()


@lru_cache
def source() -> Source:
    """Where the text comes from."""
    squad = BeirPairs(paths(), "squad2-parallel")
    documentation = LibreOfficeHelp(paths(), languages=HELP_LANGUAGES)
    return next((one for one in (squad, documentation) if one.at_hand()), Synthetic(paths(), items=50_000))


@dataclass(frozen=True)
class Texts:
    """Pairs, as text for the peer and as a set for this package: pair i is edge i."""

    questions: list[str]
    passages: list[str]
    pairs: ParallelPairs
    origin: str


def texts(similar: bool = False) -> Texts:
    """The pairs of all rows, in a fixed random order.

    Args:
        similar: passages of nearly one length only.
    """
    key = {"version": 1, "source": source().pairs().directory.name, "pairs": PAIRS, "similar": similar, "longest": LONGEST}

    def make(folder: Path) -> None:
        writer = PairsWriter(folder, source().name, ["mixed"])
        chosen = _similar(_distinct()) if similar else _distinct()[:PAIRS]
        for column, side in enumerate(("queries", "passages")):
            writer.write(side, "mixed", ((row, str(row), pair[column]) for row, pair in enumerate(chosen)))
        writer.finish({"train": np.repeat(np.arange(len(chosen))[:, None], 2, 1)}, {"provenance": {}, "dropped": {}})

    pairs = ParallelPairs.open(Cache.at(paths().cache).build("bench/texts", key, make))
    return Texts(pairs.queries.texts(), pairs.passages.texts(), pairs, source().name)


def _distinct() -> list[tuple[str, str]]:
    """Pairs in one language, shuffled, no question and no passage twice."""
    pairs = source().pairs()
    edges = pairs.split_edges("train")
    queries, passages = pairs.queries.rows[edges[:, 0]], pairs.passages.rows[edges[:, 1]]
    edge, language = np.nonzero((queries >= 0) & (passages >= 0))
    asked, answered = queries[edge, language], passages[edge, language]
    order = np.random.default_rng(0).permutation(len(edge))
    for keys in (pairs.queries.keys[asked], pairs.passages.keys[answered]):
        _, first = np.unique(keys[order], return_index=True)
        order = order[np.sort(first)]
        order = order[: 16 * PAIRS]
    return list(zip(pairs.queries.texts(asked[order]), pairs.passages.texts(answered[order]), strict=True))


def _similar(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those whose passages have nearly the median length in tokens."""
    tokenization = Tokenization(tokenizer(), "", LONGEST)
    ((ids, _),) = tokenization.chunks([[passage for _, passage in pairs]])
    distance = np.abs(ids.lengths - np.median(ids.lengths))
    nearest = np.sort(np.argsort(distance, kind="stable")[: max(PAIRS // 2, int(SIMILAR * len(pairs)))])
    return [pairs[row] for row in nearest[:PAIRS].tolist()]


def tokenizer() -> Tokenizer:
    """A unigram tokenizer trained on the bench's text."""
    return trained_tokenizer(source().text, VOCABULARY, paths())


def model_directory(vocabulary: int = VOCABULARY, shape: dict[str, int] | None = None) -> Path:
    """A model of XLM-R's architecture with random weights, in sentence-transformers' layout, which both sides read.

    Args:
        vocabulary: rows of the token embeddings, if more than the tokenizer has.
        shape: other than `SHAPE`.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    shape, trained = shape or SHAPE, tokenizer()
    key = {"version": 1, "tokenizer": trained.to_str(), "vocabulary": vocabulary, "longest": LONGEST, **shape}

    def make(folder: Path) -> None:
        import torch

        torch.manual_seed(0)
        names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
        names |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
        fast = PreTrainedTokenizerFast(tokenizer_object=trained, model_max_length=LONGEST, **names)
        size = max(vocabulary, trained.get_vocab_size())
        config = XLMRobertaConfig(
            vocab_size=size,
            pad_token_id=1,
            max_position_embeddings=LONGEST + 2,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            **shape,
        )
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder / "plain")
        fast.save_pretrained(folder / "plain")
        transformer = modules.Transformer(str(folder / "plain"), max_seq_length=LONGEST)
        pooling = modules.Pooling(shape["hidden_size"], "mean")
        SentenceTransformer(modules=[transformer, pooling, modules.Normalize()], device="cpu").save_pretrained(str(folder))

    return Cache.at(paths().cache).build("bench/models", key, make)
