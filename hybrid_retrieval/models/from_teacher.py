"""Students over a new multilingual vocabulary that start from an English teacher (arXiv 2004.09813), before they are taught.

What vocabulary and teacher share are words: a token that is a whole word of the teacher's vocabulary means there what it
means here. A static student starts with the teacher's embeddings of these words; a transformer student takes the teacher's
layers, with token embeddings that are the teacher's own for shared words and mixtures of these for all other tokens.
"""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.checkpoint import load_encoder
from hybrid_retrieval.models.encoder import BiEncoder, Model, TrainingText
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.static import StaticBackbone, StaticModel
from hybrid_retrieval.models.tokenization import BEGIN, END, PAD, pad_id
from hybrid_retrieval.models.trained_tokenizer import Vocabulary, trained_tokenizer
from hybrid_retrieval.models.transformer import TransformerBackbone
from hybrid_retrieval.values import Count, Positive, check

log = logging.getLogger(__name__)

WORD = "\N{LOWER ONE EIGHTH BLOCK}"
"""Before a token that starts a word, in tokenizers that are trained here."""
PIECE = "##"
"""Before a token of WordPiece that does not start a word."""
SPECIAL = {BEGIN: "[CLS]", END: "[SEP]", PAD: "[PAD]"}
AT_ONCE = 4096
"""Rows of the table that are compared with the shared words at once."""


def shared_words(tokenizer: Tokenizer, teacher: Tokenizer) -> dict[int, int]:
    """The tokens that are whole words of the teacher's vocabulary, of two letters or more, and its own number for each."""
    known = teacher.get_vocab()
    words = ((id_, token[1:]) for token, id_ in sorted(tokenizer.get_vocab().items()) if token.startswith(WORD))
    return {id_: known[word] for id_, word in words if len(word) > 1 and word.isalpha() and word in known}


@dataclass
class StaticFromTeacher(StaticModel):
    """Static embeddings that start as the teacher embeds the words that both know, one by one, as Model2Vec does."""

    teacher: str | None = None
    """A directory in the published layout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._teacher = _published(self.teacher, self.paths)

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        encoder = super().build(tokenizer)
        if encoder.device.type == "meta":
            return encoder
        teacher = self._teacher.load()
        if teacher.dimensions != self.dimensions:
            raise InputError(f"model.dimensions={self.dimensions}; expected those of model.teacher, {teacher.dimensions}")
        words = shared_words(tokenizer, teacher.tokenizer)
        if not words:
            raise InputError(f"model.teacher={self.teacher}: no token is a word of its vocabulary")
        meant = teacher.encode([str(tokenizer.id_to_token(id_))[1:] for id_ in words], "passage", "the teacher's words")
        table = cast(StaticBackbone, encoder.backbone).table.weight
        with torch.no_grad():
            rows = torch.tensor(list(words))
            table[rows] = torch.from_numpy(meant) * table[rows].norm(dim=1, keepdim=True)
        log.info("%s of %s tokens start as the teacher's words", f"{len(words):,}", f"{len(table):,}")
        return encoder


@dataclass
class TransformerFromTeacher(Model):
    """The teacher's layers over token embeddings of a new vocabulary.

    A token that is no shared word starts as the mean of the teacher's token embeddings of the shared words that are nearest in
    the table of a static run, weighted by a softmax of the cosines (WECHSEL, arXiv 2112.06598, eq. 2 and 3).
    """

    paths: PathsConfig
    _: KW_ONLY
    teacher: str | None = None
    """A directory in the published layout, with a transformer that reads WordPiece."""
    static: str | None = None
    """The run directory of a static student; its tokenizer is used. None: a new tokenizer, and random rows."""
    vocabulary: Vocabulary = 32_000
    """Of a new tokenizer."""
    romanize: bool = False
    """Let a new tokenizer spell all alphabets in Latin letters."""
    neighbours: Count = 10
    temperature: Positive = 0.1
    layers: str = "frozen"
    """Of the teacher: frozen, so that the table alone is trained, or trained."""
    max_query_length: Count = 64
    max_passage_length: Count = 256

    def __post_init__(self) -> None:
        check(type(self), vars(self), "model")
        if self.layers not in ("frozen", "trained"):
            raise InputError(f"model.layers={self.layers!r}; expected frozen or trained")
        lengths = {"max_query_length": self.max_query_length, "max_passage_length": self.max_passage_length}
        self._teacher = _published(self.teacher, self.paths, **lengths)

    @cached_property
    def _student(self) -> BiEncoder | None:
        if self.static is None:
            return None
        with torch.device("cpu"):
            found = load_encoder(Path(self.static).expanduser(), "best", accelerator="cpu")
        if not isinstance(found.backbone, StaticBackbone):
            raise InputError(f"model.static={self.static} is no run of a static model")
        return found

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        if self._student is None:
            return trained_tokenizer(training_text, self.vocabulary, self.paths, self.romanize)
        return Tokenizer.from_str(self._student.tokenizer.to_str())

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        teacher = self._teacher.build(self._teacher.own_tokenizer())
        if not isinstance(teacher.backbone, TransformerBackbone):
            raise InputError(f"model.teacher={self.teacher} is a static model; expected a transformer")
        meaning = teacher.backbone.table.weight.detach()
        model = cast(Any, teacher.backbone.model)
        config = model.config
        config.vocab_size, config.pad_token_id = tokenizer.get_vocab_size(), pad_id(tokenizer)
        table = nn.Embedding(config.vocab_size, meaning.shape[1])
        if table.weight.device.type != "meta":
            with torch.no_grad():
                table.weight.copy_(self._rows(tokenizer, teacher.tokenizer, meaning))
        model.set_input_embeddings(table)
        if self.layers == "frozen":
            model.requires_grad_(False)
            table.requires_grad_(True)
        backbone = TransformerBackbone(model, pad_id(tokenizer))
        return BiEncoder(backbone, tokenizer, teacher.settings)

    def _rows(self, tokenizer: Tokenizer, teacher: Tokenizer, meaning: Tensor) -> Tensor:
        """float32 [tokens, hidden]: the new table."""
        shared = shared_words(tokenizer, teacher)
        if not shared:
            raise InputError(f"model.teacher={self.teacher}: no token is a word of its vocabulary")
        here, there = torch.tensor(list(shared)), torch.tensor(list(shared.values()))
        if self._student is None:
            rows = torch.randn(tokenizer.get_vocab_size(), meaning.shape[1]) * meaning.std(0) + meaning.mean(0)
        else:
            static = nn.functional.normalize(self._student.backbone.table.weight.detach(), dim=1)
            rows = torch.cat([self._mixed(part, static[here], meaning[there]) for part in torch.split(static, AT_ONCE)])
        rows[here] = meaning[there]
        known = teacher.get_vocab()
        for token, id_ in tokenizer.get_vocab().items():
            own = SPECIAL.get(token, PIECE + token)
            if own in known and id_ not in shared:
                rows[id_] = meaning[known[own]]
        log.info("%s of %s tokens are words of the teacher", f"{len(shared):,}", f"{len(rows):,}")
        return rows

    def _mixed(self, rows: Tensor, words: Tensor, meaning: Tensor) -> Tensor:
        """[rows, hidden]: the teacher's embeddings of the nearest words, weighted."""
        found = (rows @ words.T).topk(min(self.neighbours, len(words)), dim=1)
        weights = (found.values / self.temperature).softmax(1)
        return torch.einsum("rn,rnh->rh", weights, meaning[found.indices])


def _published(path: str | None, paths: PathsConfig, **given: int) -> PublishedModel:
    if path is None:
        raise InputError("model.teacher=null; expected the directory of a published encoder")
    return PublishedModel(paths, path=path, **given)  # type: ignore[arg-type]
