"""Tokenising a corpus once and keeping it, beside ``datasets.map`` with the same fast tokenizer.

Both read Arrow and leave a memory-mapped cache of the ids cut to the same length: this package's token store (ids, offsets,
what was lost by language), the peer's Arrow file of ids (no attention mask: `map` is spared what can be computed). The peer has
the faster of one and two processes. Texts are both sides of SQuAD in three languages (317,109) where HYBRID_RETRIEVAL_DATA has
it, else of the documentation corpus or of a generated set, with as many numbered copies as make 200,000.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedTokenizerFast

from bench.row import Row, interleaved
from bench.texts import LONGEST, paths, source, tokenizer
from hybrid_retrieval.cache import Cache
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs
from hybrid_retrieval.data.tokens import TokenStore, tokenise
from hybrid_retrieval.models.tokenization import Tokenization

LEAST = 200_000
SIDES = ("queries", "passages")


def corpus() -> ParallelPairs:
    """At least `LEAST` texts."""
    pairs = source().pairs()
    count = len(pairs.queries) + len(pairs.passages)
    if count >= LEAST:
        return pairs
    copies = -(-LEAST // count)

    def make(folder: Path) -> None:
        writer = PairsWriter(folder, pairs.name, pairs.languages)
        for side in SIDES:
            table = getattr(pairs, side)
            for index, language in enumerate(pairs.languages):
                rows = np.flatnonzero(table.languages == index)
                texts = [f"{copy} {text}" for copy in range(copies) for text in table.texts(rows)]
                writer.write(side, language, ((row, str(row), text) for row, text in enumerate(texts)))
        writer.finish({}, {"provenance": {}, "dropped": {}})

    key = {"version": 1, "source": pairs.directory.name, "copies": copies}
    return ParallelPairs.open(Cache.at(paths().cache).build("bench/texts", key, make))


def tokenize() -> Row:
    pairs, trained = corpus(), tokenizer()
    logging.getLogger("hybrid_retrieval").setLevel(logging.WARNING)
    datasets.disable_progress_bars()
    fast = PreTrainedTokenizerFast(tokenizer_object=trained, pad_token="<pad>", unk_token="<unk>")
    tables = {side: datasets.Dataset(getattr(pairs, side).table.select(["text"])) for side in SIDES}
    kept: dict[str, dict[str, Any]] = {}
    work = Path(tempfile.mkdtemp(prefix="bench-tokens-", dir=Cache.at(paths().cache).root))

    def ours() -> None:
        shutil.rmtree(work / "ours", ignore_errors=True)
        kept["ours"] = open_ours()

    def open_ours() -> dict[str, TokenStore]:
        cache = Cache.at(work / "ours")
        how = Tokenization(trained, "", LONGEST)
        return {side: tokenise(pairs, side, how, trained.get_vocab_size(), cache, show=False) for side in SIDES}

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = fast(batch["text"], truncation=True, max_length=LONGEST, return_attention_mask=False)["input_ids"]
        return {"input_ids": ids}

    def peer(processes: int | None) -> None:
        shutil.rmtree(work / "peer", ignore_errors=True)
        (work / "peer").mkdir()
        kept["peer"] = {
            side: table.map(
                encode,
                batched=True,
                num_proc=processes,
                remove_columns=["text"],
                load_from_cache_file=False,
                cache_file_name=str(work / "peer" / f"{side}.arrow"),
            )
            for side, table in tables.items()
        }

    try:
        seconds = {}
        for processes in (None, 2):
            start = time.perf_counter()
            peer(processes)
            seconds[processes] = time.perf_counter() - start
        best = min(seconds, key=lambda processes: seconds[processes])
        mine, theirs = interleaved(ours, lambda: peer(best), warm=0)
        check_equal(kept["ours"], kept["peer"])
        start = time.perf_counter()
        open_ours()
        opening = time.perf_counter() - start
    finally:
        kept.clear()
        shutil.rmtree(work)
    texts = sum(len(getattr(pairs, side)) for side in SIDES)
    details = {
        "text": pairs.name,
        "ours": mine.details(),
        "peer": theirs.details(),
        "peer_processes": best or 1,
        "peer_tried": {processes or 1: round(value, 2) for processes, value in seconds.items()},
        "opening_a_finished_cache": round(opening, 4),
    }
    return Row("tokenize", f"s, {texts:,} texts", mine.median, theirs.median, 1.2, details=details)


def check_equal(ours: dict[str, TokenStore], peer: dict[str, Any]) -> None:
    """Every 97th text has the same ids on both sides.

    Raises:
        AssertionError: one has not.
    """
    for side, store in ours.items():
        assert len(peer[side]) == len(store.tokens)
        for row in range(0, len(peer[side]), 97):
            assert store.tokens[row].tolist() == peer[side][row]["input_ids"], f"text {row} of {side}"
