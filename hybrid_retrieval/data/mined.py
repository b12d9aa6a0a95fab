"""What mining adds to a set in BEIR's files: its mark, and a teacher's scores of judged pairs.

``set.json`` beside the languages marks a set that was written from one that was built: passages are of one group by their ids
alone, whatever they answer, and its splits are as they are judged. ``<language>/scores/<split>.tsv`` has lines (query-id,
corpus-id, score).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from hybrid_retrieval.data.beir_folder import BeirFolder
from hybrid_retrieval.data.records import read_lines
from hybrid_retrieval.errors import InputError

SET = "set.json"
HEADER = ["query-id", "corpus-id", "score"]


def mean_scores(folder: BeirFolder, languages: Sequence[str], split: str) -> Mapping[tuple[str, str], float]:
    """By (query id, passage id) the mean of their scores over languages.

    Raises:
        InputError: a damaged line, or a score that is no number, with file and line.
    """
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for language in languages:
        file = folder.path / language / "scores" / f"{split}.tsv"
        for number, line in read_lines(file) if file.exists() else ():
            fields = line.rstrip("\r\n").split("\t")
            if number == 1 or len(fields) != 3:
                if fields != HEADER:
                    raise InputError(
                        f"{file}, line {number}: {line.strip()[:60]!r}; expected {', '.join(HEADER)}, tab-separated"
                    )
                continue
            try:
                score = float(fields[2])
            except ValueError:
                score = math.nan
            if not math.isfinite(score):
                raise InputError(f"{file}, line {number}: {fields[2][:30]!r} is no score; expected a number")
            found[fields[0], fields[1]].append(score)
    return {pair: math.fsum(scores) / len(scores) for pair, scores in found.items()}
