"""A benchmark with minimally wrong copies among its passages: ``python -m hybrid_retrieval.challenge NAME --out DIR``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_retrieval.cache import check_new
from hybrid_retrieval.command import explain
from hybrid_retrieval.config import PathsConfig, config_directory
from hybrid_retrieval.data.wrong_copies import KINDS, NEGATION, Names, changes
from hybrid_retrieval.errors import InputError, choice, outlive_readers
from hybrid_retrieval.files import write_text
from hybrid_retrieval.hashing import text_hash
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import build, construct

if TYPE_CHECKING:
    from hybrid_retrieval.evaluation.collection import RetrievalCollection

DESCRIPTION = """Write a benchmark in BEIR's files, one folder a language: its queries, the passages that answer one, and for
each of these copies with one thing wrong (number; date: a year; entity; negation), the same thing in all languages. An encoder
that does not read closely ranks a wrong copy above the answer: evaluate it with benchmark=beir_parallel."""
EPILOG = """A copy's id is the passage's with the kind after it, as in 17#number. Names are CLDR's (cldr-names below paths.data)
as they stand there: inflected ones are not found, and names of languages stay. Negation is for de, en, es, fr. Months and
weekdays stay as they are."""
NAMES = "cldr-names"
REPORT = "challenge.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder that the command line names; the exit code is 2 where it cannot be made."""
    parser = argparse.ArgumentParser("hybrid-retrieval challenge", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("benchmark", metavar="NAME", help="of the config group benchmark")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="such as benchmark.NAME.languages=[de,en]")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of what is put in place of what (default: 0)")
    parser.add_argument("--kinds", metavar="NAME[,NAME ...]", default=",".join(KINDS), help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    try:
        kinds = chosen.kinds.split(",")
        for kind in kinds:
            choice("--kinds", kind, KINDS)
        if not 0 <= chosen.seed < 2**32:
            raise InputError(f"--seed={chosen.seed} is outside 0..{2**32 - 1}")
        check_new(chosen.out, "--out")
        collection, paths = load_benchmark(chosen.benchmark, chosen.overrides)
        if collection.asked is not None or len(collection.excluded):
            name = collection.name
            raise InputError(f"benchmark {name} has no pool that every query is asked of; expected one such as xquad_r")
        write(
            collection, wrong_copies(collection, kinds, chosen.seed, paths), chosen.out, {"seed": chosen.seed, "kinds": kinds}
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def load_benchmark(name: str, overrides: Sequence[str]) -> tuple[RetrievalCollection, PathsConfig]:
    """The benchmark, as the command evaluate would load it."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark

    given = [f"benchmark={name}", *overrides]
    try:
        with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
            composed = hydra.compose("evaluate", given)
        plain = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error, "evaluate", given)) from error
    assert isinstance(plain, dict)
    if len(plain["benchmark"]) != 1:
        raise InputError(f"{name!r} names {len(plain['benchmark'])} benchmarks; expected one")
    [(key, node)] = plain["benchmark"].items()
    paths = construct(PathsConfig, plain["paths"], "paths")
    collection: RetrievalCollection = build(node, Benchmark, f"benchmark.{key}", paths=paths).load()
    return collection, paths


def wrong_copies(
    collection: RetrievalCollection, kinds: Sequence[str], seed: int, paths: PathsConfig
) -> dict[int, dict[str, str]]:
    """The copies of each row of the corpus that answers a query, by kind.

    The passages that answer translations of one question are translations: of each kind all of them get the change that most of
    their languages can make, and the others none.

    Raises:
        InputError: names are asked for and not at hand.
    """
    names = Names({})
    if "entity" in kinds:
        folder = Path(paths.data or "").expanduser() / NAMES
        names = Names.read(folder, collection.languages)
        if not names.names:
            where = f"{folder} has no file of {', '.join(collection.languages)}" if paths.data else "paths.data is not set"
            raise InputError(f"--kinds=entity reads {NAMES} below paths.data (HYBRID_RETRIEVAL_DATA): {where}; leave it out")
    language_of = [collection.languages[number] for number in collection.corpus.language.tolist()]
    answers = {*collection.document.tolist()}
    taken = {(language_of[row], collection.corpus.texts[row]) for row in answers}
    found: dict[int, dict[str, str]] = defaultdict(dict)
    groups = list(_translations(collection))
    for group in track(groups, "making copies", len(groups)):
        for kind in kinds:
            made: dict[str, dict[int, str]] = defaultdict(dict)
            for row in group:
                for what, changed in changes(kind, collection.corpus.texts[row], language_of[row], seed, names):
                    if (language_of[row], changed) not in taken:
                        made[what][row] = changed
            reached = {what: len({language_of[row] for row in rows}) for what, rows in made.items()}
            if reached:
                best = min(reached, key=lambda what: (-reached[what], text_hash(f"{seed}\t{what}"), what))
                for row, changed in made[best].items():
                    found[row][kind] = changed
    return dict(sorted(found.items()))


def _translations(collection: RetrievalCollection) -> Iterator[list[int]]:
    """Rows of the corpus that answer a question, in groups of translations; of a group in one language each by itself."""
    import numpy as np

    from hybrid_retrieval.data.source import components

    names = {id_: number for number, id_ in enumerate(dict.fromkeys(collection.queries.ids))}
    question = np.array([names[collection.queries.ids[row]] for row in collection.query.tolist()], np.int64)
    rows = np.unique(collection.document)
    document = np.searchsorted(rows, collection.document)
    label = components(np.stack([question, len(names) + document], 1), len(names) + len(rows))[len(names) :]
    groups: dict[int, list[int]] = defaultdict(list)
    for row, number in zip(rows.tolist(), label.tolist(), strict=True):
        groups[number].append(row)
    for group in groups.values():
        one_language = len({int(collection.corpus.language[row]) for row in group}) == 1
        yield from ([row] for row in group) if one_language else [group]


def write(
    collection: RetrievalCollection, copies: Mapping[int, Mapping[str, str]], folder: Path, facts: Mapping[str, Any]
) -> None:
    """Write the queries that have an answer, the answers and their copies, and say how many there are of each kind.

    A query id of several languages stays one only where a judgement holds for all of them; else it has its language before it.
    """
    from hybrid_retrieval.mining.folder import lines_to

    queries, corpus = collection.queries, collection.corpus
    asks: dict[str, set[int]] = defaultdict(set)
    judged: dict[tuple[str, int], set[int]] = defaultdict(set)
    for query, document in zip(collection.query.tolist(), collection.document.tolist(), strict=True):
        asks[queries.ids[query]].add(query)
        judged[queries.ids[query], document].add(query)
    parallel = all(len(of) == len(asks[id_]) for (id_, _), of in judged.items())
    asked = sorted({*collection.query.tolist()})
    language_of = [collection.languages[number] for number in queries.language.tolist()]
    name_of = {row: queries.ids[row] if parallel else f"{language_of[row]}:{queries.ids[row]}" for row in asked}
    judgements = zip(collection.query.tolist(), collection.document.tolist(), collection.grade.tolist(), strict=True)
    grades = {(name_of[query], document): grade for query, document, grade in judgements}
    rows = sorted({*collection.document.tolist()})
    counts: dict[str, dict[str, int]] = {}
    work = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    for number, language in enumerate(collection.languages):
        mine = [row for row in rows if corpus.language[row] == number]
        questions = [row for row in asked if queries.language[row] == number]
        (work / language / "qrels").mkdir(parents=True)
        texts = [(corpus.ids[row], corpus.texts[row]) for row in mine]
        wrong = [(f"{corpus.ids[row]}#{kind}", text) for row in mine for kind, text in copies.get(row, {}).items()]
        if twice := {id_ for id_, _ in texts} & {id_ for id_, _ in wrong}:
            raise InputError(f"benchmark {collection.name}: passage {language}:{min(twice)} has the id of a wrong copy already")
        for stem, lines in (("queries", [(name_of[row], queries.texts[row]) for row in questions]), ("corpus", texts + wrong)):
            if lines:
                with lines_to(work / language / f"{stem}.jsonl.gz") as file:
                    file.writelines(json.dumps({"_id": id_, "text": text}, ensure_ascii=False) + "\n" for id_, text in lines)
        here = {*mine}
        with lines_to(work / language / "qrels" / "test.tsv") as file:
            file.write("query-id\tcorpus-id\tscore\n")
            file.writelines(f"{query}\t{corpus.ids[row]}\t{grade}\n" for (query, row), grade in grades.items() if row in here)
        made = Counter(kind for row in mine for kind in copies.get(row, {}))
        counts[language] = {"passages": len(mine), **{kind: made[kind] for kind in facts["kinds"]}}
    report = {"benchmark": collection.name, "fingerprint": collection.fingerprint, **facts, "counts": counts}
    write_text(work / REPORT, json.dumps(report, indent=1) + "\n")
    work.replace(folder)
    for language, of in counts.items():
        print(f"{language}: " + ", ".join(f"{name} {count:,}" for name, count in of.items()))
    without = [language for language in collection.languages if language not in NEGATION]
    if without and "negation" in facts["kinds"]:
        print(f"negation: no rule for {', '.join(without)}")
    print(f"wrote {folder}: benchmark=beir_parallel benchmark.beir_parallel.path={folder}")


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
