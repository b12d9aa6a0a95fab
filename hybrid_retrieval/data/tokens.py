"""Tokenise once: the ids of every text of a set in one memory-mapped array.

The cache is keyed by the tokenizer (with prefix and length limit), the prompt of the set, and the text; a training step only
copies ids.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.data.parallel import ParallelPairs, TextTable
from hybrid_retrieval.data.stored_texts import prompted
from hybrid_retrieval.progress import track
from hybrid_retrieval.ragged import Ragged

log = logging.getLogger(__name__)

VERSION = 2
CHUNK = 4096


class Tokenization(Protocol):
    """How one side's text becomes ids; `hybrid_retrieval.models.tokenization` has the real one."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that the ids depend on."""

    @property
    def byte_ids(self) -> npt.NDArray[np.int64]:
        """Ids that stand for single bytes."""

    @property
    def unknown_id(self) -> int:
        """Id of the unknown token, or -1."""

    def chunks(self, texts: Iterable[Sequence[str]]) -> Iterator[tuple[Ragged, npt.NDArray[np.bool_]]]:
        """Ids of each chunk of texts, and which of its texts were cut."""


@dataclass(frozen=True)
class Coverage:
    """Counts of one language: texts, their tokens, and the losses of tokenising them (law 7)."""

    texts: int
    tokens: int
    truncated: int
    unknown: int
    bytes: int


@dataclass(frozen=True)
class TokenStore:
    """The ids of all rows of a text table.

    Attributes:
        tokens: uint16 or int32 ids, a row a text, memory-mapped.
        coverage: by language.
    """

    tokens: Ragged
    coverage: Mapping[str, Coverage]


def tokenise(
    pairs: ParallelPairs,
    side: str,
    tokenization: Tokenization,
    vocabulary: int,
    cache: Cache,
    show: bool = True,
    chunk: int = CHUNK,
) -> TokenStore:
    """The token store of one side (``queries`` or ``passages``) of a set, built on first use, `chunk` texts at a time."""
    table: TextTable = getattr(pairs, side)
    prompt = pairs.prompts.get(side, "")
    key = {"version": VERSION, **tokenization.fingerprint, "texts": pairs.meta["fingerprint"], "side": side}
    key |= {"prompt": prompt} if prompt else {}

    def make(directory: Path) -> None:
        batches = (prompted(texts, prompt) for texts in table.column("text").batches(chunk))
        texts = track(batches, f"tokenising {side}", -(-len(table) // chunk), show)
        _build(directory, table, pairs.languages, tokenization, vocabulary, texts)

    directory = cache.build("tokens", key, make)
    meta = json.loads((directory / "coverage.json").read_text())
    coverage = {language: Coverage(**values) for language, values in meta.items()}
    offsets = np.load(directory / "offsets.npy")
    ids = np.memmap(directory / "ids.bin", _id_type(vocabulary), "r") if offsets[-1] else np.empty(0, np.uint16)
    report(f"{pairs.name} {side}", coverage)
    return TokenStore(Ragged(ids, offsets), coverage)


def _id_type(vocabulary: int) -> npt.DTypeLike:
    return np.uint16 if vocabulary <= 1 << 16 else np.int32


def report(what: str, coverage: Mapping[str, Coverage]) -> None:
    """Log what was cut or unknown, so that nothing is lost in silence."""
    cut = {language: part.truncated for language, part in coverage.items() if part.truncated}
    strange = {
        language: (part.unknown + part.bytes) / part.tokens
        for language, part in coverage.items()
        if part.tokens and (part.unknown + part.bytes) / part.tokens > 0.0005
    }
    if cut:
        log.info("%s: texts cut to the length limit: %s", what, ", ".join(f"{k} {v:,}" for k, v in cut.items()))
    if strange:
        log.info("%s: tokens unknown or spelt in bytes: %s", what, ", ".join(f"{k} {v:.2%}" for k, v in strange.items()))


def _build(
    directory: Path,
    table: TextTable,
    languages: Sequence[str],
    tokenization: Tokenization,
    vocabulary: int,
    texts: Iterable[Sequence[str]],
) -> None:
    """Stream ids to disk; lengths are all that is held."""
    lengths = np.zeros(len(table), np.int64)
    of_row = table.languages
    counts = {name: np.zeros(len(languages), np.int64) for name in ("truncated", "unknown", "bytes")}
    is_byte = np.zeros(vocabulary, dtype=bool)
    is_byte[tokenization.byte_ids] = True
    row = 0
    with (directory / "ids.bin").open("wb") as file:
        for ids, cut in tokenization.chunks(texts):
            part, flat = ids.lengths, ids.values
            language = of_row[row : row + len(part)]
            for name, lost in (("bytes", is_byte[flat]), ("unknown", flat == tokenization.unknown_id)):
                if lost.any():
                    counts[name] += np.bincount(language[ids.rows()[lost]], minlength=len(languages))
            counts["truncated"] += np.bincount(language[cut], minlength=len(languages))
            file.write(flat.astype(_id_type(vocabulary)).tobytes())
            lengths[row : row + len(part)] = part
            row += len(part)
    np.save(directory / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
    held = np.bincount(of_row, minlength=len(languages))
    tokens = np.bincount(of_row, lengths, len(languages)).astype(np.int64)
    record = {
        language: {"texts": int(held[i]), "tokens": int(tokens[i])} | {name: int(count[i]) for name, count in counts.items()}
        for i, language in enumerate(languages)
    }
    (directory / "coverage.json").write_text(json.dumps(record))
