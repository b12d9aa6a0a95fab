"""Package descriptions: the short one asks, the paragraphs answer, translations share an id."""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.sources.debian_descriptions import DebianDescriptions
from hybrid_retrieval.errors import InputError

DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")


def write(folder: Path, language: str, records: Sequence[Any], packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    file = folder / f"{language}.jsonl{'.xz' * packed}"
    file.write_bytes(lzma.compress(content) if packed else content)


def test_a_short_description_asks_and_the_paragraphs_answer(paths: PathsConfig, tmp_path: Path) -> None:
    folder = tmp_path / "local" / "set"
    write(folder, "en", [["m1", "a mail reader", ["Reads mail.", "Sends\n it."], "mutt"], ["m2", "nothing", [], "none"]])
    write(folder, "pt_BR", [["m1", "um leitor", ["Lê correio."]], ["m3", "só aqui", ["Um parágrafo."]]], packed=False)
    pairs = DebianDescriptions(paths, "set", validation_share=0.0).pairs()
    assert pairs.languages == ("en", "pt_br")
    (first,) = pairs.edges[(pairs.queries.rows[pairs.edges[:, 0]] >= 0).all(1)].tolist()
    assert pairs.queries.texts(pairs.queries.rows[first[0]]) == ["a mail reader", "um leitor"]
    assert pairs.passages.texts(pairs.passages.rows[first[1]]) == ["Reads mail. Sends it.", "Lê correio."]
    assert len(pairs.edges) == 2
    assert pairs.meta["dropped"] == {"passages with an empty text": {"en": 1}}
    assert len(DebianDescriptions(paths, "set", pivot="en", validation_share=0.0).pairs().edges) == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": "m"}, "line 1: not a list of id, short description, paragraphs"),
        (["m", "short"], "line 1: not a list of id, short description, paragraphs"),
        (["m", "short", "long"], "line 1: paragraphs is a text; expected a list"),
        (["m", "short", [3]], r"line 1: paragraphs\[0\] is a number \(3\); expected a text"),
        (["m", None, []], "line 1: short description is null; expected a text"),
        ([None, "short", []], "line 1: id is null; expected an id"),
    ],
)
def test_bad_records_are_named(record: Any, message: str, paths: PathsConfig, tmp_path: Path) -> None:
    write(tmp_path / "local" / "set", "en", [record])
    with pytest.raises(InputError, match=rf"en\.jsonl\.xz, {message}"):
        DebianDescriptions(paths, "set").pairs()


@pytest.mark.skipif(DATA is None, reason="HYBRID_RETRIEVAL_DATA is not set")
def test_counts_of_the_published_descriptions(tmp_path: Path) -> None:
    languages = ["cs", "es", "ja", "ko", "pl", "pt", "pt_br", "ru", "uk", "zh"]
    paths = PathsConfig(data=DATA, cache=str(tmp_path))
    if not DebianDescriptions(paths, "parallel-text/debian-ddtp").at_hand():
        pytest.skip("parallel-text/debian-ddtp is not in HYBRID_RETRIEVAL_DATA")
    pairs = DebianDescriptions(paths, "parallel-text/debian-ddtp", languages=languages, validation_share=0.0).pairs()
    counts = dict(zip(languages, (2043, 2000, 5823, 4143, 3508, 1695, 6029, 3175, 4027, 1047), strict=True))
    assert pairs.meta["counts"]["queries"] == counts
    assert pairs.meta["counts"]["passages"] == counts
    assert ((pairs.queries.rows >= 0) == (pairs.passages.rows >= 0)).all()
