"""Long texts in pieces that an encoder reads whole; and fingerprints that change when embeddings would."""

from __future__ import annotations

import itertools

import pytest
import torch

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.protocol import evaluate
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.models.tokenization import Tokenization
from tests.models.small_models import SENTENCES, TEXTS

LONG = " ".join(f"{text} {number}" for number, text in enumerate(TEXTS[:12]))
UNSEGMENTED = "表格保留公式。" * 40


@pytest.mark.parametrize("prefix", ["", "Passage: "])
@pytest.mark.parametrize(
    "text", [LONG, UNSEGMENTED, "short", "", "word " * 300 + "end"], ids=["long", "zh", "short", "empty", "spaces"]
)
@pytest.mark.parametrize("length", [16, 40])
def test_pieces_are_read_whole_and_lose_nothing(text: str, prefix: str, length: int, tokenizer) -> None:
    tokenization = Tokenization(tokenizer, prefix, length)
    pieces = tokenization.pieces(text, 0)
    for _, cut in tokenization.chunks([pieces]):
        assert not cut.any()
    assert "".join("".join(pieces).split()) == "".join(text.split())
    if text in ("short", ""):
        assert pieces == [text]
    else:
        room = length - 4 - len(tokenizer.encode(prefix, add_special_tokens=False).ids)
        assert len(pieces) <= 2 * len(tokenizer.encode(text).ids) / room + 2


def test_pieces_start_at_words(tokenizer) -> None:
    pieces = Tokenization(tokenizer, "", 40).pieces(LONG, 0)
    assert len(pieces) > 5
    words = LONG.split()
    assert [word for piece in pieces for word in piece.split()] == words


def test_neighbours_share_tokens(tokenizer) -> None:
    tokenization = Tokenization(tokenizer, "", 24)
    pieces = tokenization.pieces(LONG, 6)
    for one, other in itertools.pairwise(pieces):
        shared = next(size for size in range(min(len(one), len(other)), -1, -1) if one.endswith(other[:size]))
        assert 3 <= len(tokenizer.encode(other[:shared], add_special_tokens=False).ids) <= 8
    with pytest.raises(InputError, match=r"evaluation\.overlap=11 leaves no room in model\.max_passage_length=24"):
        tokenization.pieces(LONG, 11)


def test_a_long_document_is_found_by_its_best_piece(make_encoder) -> None:
    encoder = make_encoder("static", max_passage_length=24)
    collection = RetrievalCollection.build(
        "long",
        {"en": [("q", SENTENCES[7])]},
        {"en": [("late", " ".join([*SENTENCES[:7], SENTENCES[7]])), ("other", " ".join(SENTENCES[:4]))]},
        {("en", "en"): [("q", "late", 1)]},
    )
    index = Dense(encoder, documents="chunks").index(collection)
    scores = index.pool.against(slice(0, 2))(0, 1)
    pieces = encoder.pieces(collection.corpus.texts, 0)
    query = torch.from_numpy(encoder.encode([SENTENCES[7]], "query"))
    best = [float((query @ torch.from_numpy(encoder.encode(part, "passage")).T).max()) for part in pieces]
    assert scores[0].tolist() == pytest.approx(best, abs=1e-5)
    assert evaluate(Dense(encoder, documents="chunks"), collection).metrics["long/monolingual/mrr"] == 1


def test_a_fingerprint_is_of_weights_role_and_settings(make_encoder) -> None:
    def prints(**settings: object) -> tuple[str, str]:
        torch.manual_seed(0)
        encoder = make_encoder("transformer", **{"query_prefix": "Query: ", **settings})
        return encoder.fingerprint("query"), encoder.fingerprint("passage")

    first = prints()
    assert prints() == first
    assert len({*first, *prints(pooling="cls"), *prints(query_prefix="Ask: "), *prints(max_passage_length=9)}) == 8
    encoder = make_encoder("transformer")
    before = encoder.fingerprint("query")
    with torch.no_grad():
        next(iter(encoder.parameters())).view(-1)[3] += 1e-3
    assert encoder.fingerprint("query") != before
