"""The leakage audit of a run: what benchmarks share with the training text, and whether the run may go on.

Every query and passage of every benchmark is looked for in the training split's queries, answers and hard negatives,
whatever their languages:

- ``exact``: the same text; ``normalised``: the same words (`units`), whatever case, spacing, punctuation and Unicode form;
- ``id``: the same id on the same side, a language code before or after it aside, where the id says by itself what it is of
  (16 hexadecimal digits or more, such as SQuAD's; ``0``, ``1``, ... are everybody's);
- ``ngram``: at least ``audit.threshold`` of the text's distinct n-grams occur in training text, wherever in it, as in the
  contamination studies of language models (GPT-3, arXiv 2005.14165; PaLM, arXiv 2204.02311). So a sentence is found in its
  paragraph. Texts that are shorter than an n-gram have none, and are counted as ``short``.

A run stops where what it would learn is the answer: an equal text of a passage that answers a query and is as long as an
n-gram; a query that is equal to a training query with the same answer (equal, one within the other, or with
``audit.threshold`` of the shorter one's n-grams); an id of a query or of a passage that answers one. What else is equal is
reported: headings and common questions recur (SQuAD's training and dev sets share "What was the average family size?", of
different towns), and a corpus may share what answers nothing. So are passages that are hard negatives only, and passages
that a set declares to be in both splits: the benchmark is a split of the very set that is trained on (its queries are in
that set's files), and the passage is the same row there; its queries and their answers still stop the run.

Queries and passages that answer one are looked for without exception; of passages that answer none a million at most, evenly
spaced.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hybrid_retrieval.audit.index import Index
from hybrid_retrieval.audit.overlap import KINDS, Hit, find_hits
from hybrid_retrieval.audit.texts import evaluation_texts, training_texts
from hybrid_retrieval.config import AuditConfig
from hybrid_retrieval.data.parallel import SIDES, ParallelPairs
from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.files import read_recorded, record_text

log = logging.getLogger(__name__)

SUMMARY, HITS = "audit.json", "audit.parquet"
SHOWN = 300
"""Hits in the summary; the other file has them all."""
MOST_UNJUDGED = 1_000_000
TYPES = {"str": pa.string(), "float": pa.float64(), "bool": pa.bool_()}
SCHEMA = pa.schema([(field.name, TYPES[str(field.type)]) for field in fields(Hit)])


def audit(
    config: AuditConfig,
    sets: Sequence[ParallelPairs],
    collections: Mapping[str, RetrievalCollection],
    directory: Path,
    hard_negatives: int = 0,
    most_unjudged: int = MOST_UNJUDGED,
) -> dict[str, float]:
    """Audit the training sets against the benchmarks; write ``audit.json`` and ``audit.parquet``.

    Args:
        hard_negatives: of each pair, that are trained on.
        most_unjudged: passages that answer no query, and so cannot stop a run, that are looked for.

    Returns:
        Flat figures: ``audit/<benchmark>/<kind>`` and ``audit/<benchmark>/stopping``, in texts.

    Raises:
        InputError: a hit that a run stops for, unless ``audit.allow``; the files are written before.
    """
    start = time.perf_counter()
    training = training_texts(sets, hard_negatives)
    evaluation, step = evaluation_texts(collections, most_unjudged)
    index = Index(evaluation, config.ngram)
    hits = find_hits(index, training, config.threshold)
    seconds = time.perf_counter() - start
    benchmarks = {name: _counts(index, name, [hit for hit in hits if hit.benchmark == name]) for name in collections}
    record = {
        **asdict(config),
        "sampled_ngrams": index.sampled,
        "sampled_unjudged_passages": step,
        "training": [{"set": part.name, "side": part.side, "texts": len(part)} for part in training.parts],
        "seconds": round(seconds, 3),
        "benchmarks": benchmarks,
        "hits": [asdict(hit) for hit in sorted(hits, key=lambda hit: not hit.stops)[:SHOWN]],
    }
    pq.write_table(pa.Table.from_pylist([asdict(hit) for hit in hits], schema=SCHEMA), directory / HITS)
    record_text(directory / SUMMARY, json.dumps(record, indent=1, ensure_ascii=False))
    for name, counts in benchmarks.items():
        log.info("audit of %s against %s training texts: %s", name, f"{len(training):,}", _line(counts))
    stopping = [hit for hit in hits if hit.stops]
    if stopping and not config.allow:
        raise InputError(_reason(stopping, benchmarks, directory))
    return audited(directory)


def audited(directory: Path) -> dict[str, float]:
    """The figures of an audit that was written to a run directory."""
    figures: dict[str, float] = {}
    with reading(f"{directory / SUMMARY} is no audit"):
        for name, counts in read_recorded(directory / SUMMARY)["benchmarks"].items():
            figures |= {f"audit/{name}/{kind}": float(sum(counts[side][kind] for side in SIDES)) for kind in KINDS}
            figures[f"audit/{name}/stopping"] = float(counts["stopping"])
    return figures


def _counts(index: Index, name: str, hits: Sequence[Hit]) -> dict[str, Any]:
    """Evaluation texts of a benchmark by side and kind, and by language pair (evaluation-training)."""
    found: dict[str, Any] = {"stopping": len({(hit.side, hit.language, hit.id) for hit in hits if hit.stops})}
    for part in index.evaluation.parts:
        if part.name == name:
            pairs = {
                kind: Counter(
                    f"{hit.language}-{hit.training_language}" for hit in hits if (hit.side, hit.kind) == (part.side, kind)
                )
                for kind in KINDS
            }
            found[part.side] = {
                "texts": len(part.ids),
                "looked_for": len(part),
                "short": int((~index.long[part.start : part.start + len(part)]).sum()),
                **{kind: counted.total() for kind, counted in pairs.items()},
                "language_pairs": {kind: dict(sorted(counted.items())) for kind, counted in pairs.items() if counted},
            }
    return found


def _line(counts: Mapping[str, Any]) -> str:
    """The counts of one benchmark as a line of the log."""
    sides = []
    for side in SIDES:
        kinds = [f"{counts[side][kind]:,} {kind}" for kind in KINDS if counts[side][kind]]
        texts, looked_for = (counts[side][key] for key in ("texts", "looked_for"))
        sampled = f" ({looked_for:,} sampled)" if looked_for < texts else ""
        sides.append(f"of {texts:,} {side}{sampled} {', '.join(kinds) or 'none'}")
    return "; ".join(sides) + (f"; {counts['stopping']:,} of them leaked" if counts["stopping"] else "")


def _reason(stopping: Sequence[Hit], benchmarks: Mapping[str, Any], directory: Path) -> str:
    """The error of a run that stops."""
    first = stopping[0]
    counted = ", ".join(f"{counts['stopping']:,} of {name}" for name, counts in benchmarks.items() if counts["stopping"])
    what = {"queries": "query", "passages": "passage"}
    return (
        f"evaluation texts are trained on: {counted}; {what[first.side]} {first.language}:{first.id} is "
        f"{what[first.training_side]} {first.training_language}:{first.training_id} of {first.training_set} ({first.kind}; "
        f"all in {directory / SUMMARY}): train on other data, leave the benchmark out, or set audit.allow=true"
    )
