"""Queries changed by an encoder's own scores: ``python -m hybrid_retrieval.attack NAME RUN|MODEL ... --out DIR``."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from hybrid_retrieval.cache import check_new
from hybrid_retrieval.command import set_up_process, with_exit_code
from hybrid_retrieval.errors import InputError, choice, outlive_readers
from hybrid_retrieval.files import write_text
from hybrid_retrieval.progress import track
from hybrid_retrieval.reporting.attack import RANDOM
from hybrid_retrieval.values import Count, Range, Seed, check

if TYPE_CHECKING:
    from hybrid_retrieval.evaluation.attack import Attacked
    from hybrid_retrieval.evaluation.collection import RetrievalCollection
    from hybrid_retrieval.evaluation.degradation import Degradation
    from hybrid_retrieval.evaluation.language_pairs import LanguagePair
    from hybrid_retrieval.evaluation.protocol import Wanted
    from hybrid_retrieval.evaluation.retrievers.retriever import AskedAgain, Index

DESCRIPTION = """Change the words of a benchmark's queries so that an encoder's own scores put a wrong passage first, and score
the changed queries with every encoder given: what each loses to an attack on itself, and to attacks on the others."""
EPILOG = """Written: attack.parquet, a row a figure; attacked_queries.parquet, a row a query and budget of words, with what was
changed; attack.json. Documents are read whole."""
DEFAULT = ("synonyms", "keyboard", "swap", "drop", "repeat")
FIGURES, QUERIES, SETTINGS_FILE = "attack.parquet", "attacked_queries.parquet", "attack.json"
RANGES: Mapping[str, Any] = {
    "--words": Count,
    "--variants": Count,
    "--queries": Count | None,
    "--similarity": Annotated[float, Range(-1, 1)] | None,
    "--seed": Seed,
    "--replicates": Annotated[int, Range(0, 1_000_000)],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack the encoders that the command line names; the exit code is 2 where they cannot be."""
    parser = argparse.ArgumentParser("hybrid-retrieval attack", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("benchmark", metavar="NAME", help="of the config group benchmark")
    parser.add_argument("models", metavar="RUN|MODEL", nargs="+", help="run directories, or published encoders")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--words", metavar="N", type=int, default=3, help="the most that change of a query (default: 3)")
    parser.add_argument("--variants", metavar="N", type=int, default=120, help="of a query that are scored (default: 120)")
    parser.add_argument(
        "--candidates",
        metavar="NAME[,NAME ...]",
        default=",".join(DEFAULT),
        help="what changes a word: synonyms (a wordnet's), or perturbations (default: %(default)s)",
    )
    parser.add_argument("--queries", metavar="N", type=int, help="so many of each language, the same in all (default: all)")
    parser.add_argument("--settings", metavar="NAME[,NAME ...]", help="monolingual, crosslingual, multilingual (default: all)")
    parser.add_argument("--corpus-language", metavar="NAME", help="of Cr.: whose passages are searched (default: en)")
    parser.add_argument("--judge", metavar="RUN|MODEL", help="another encoder, to which a variant has to be like its query")
    parser.add_argument("--similarity", metavar="X", type=float, help="with --judge: the least cosine (default: 0.8)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument("--replicates", metavar="N", type=int, default=1000, help="of the bootstrap; 0: no intervals")
    parser.add_argument("--override", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="of the benchmark")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("hybrid_retrieval").setLevel(logging.INFO)
    set_up_process()
    with_exit_code(lambda: run(chosen))
    return 0


def run(chosen: argparse.Namespace) -> None:
    """Attack, measure, write and print.

    Raises:
        InputError: an argument, the benchmark or a model is at fault.
    """
    _check(chosen)
    from hybrid_retrieval.challenge import load_benchmark
    from hybrid_retrieval.evaluation.attack import CANDIDATES, Attack, at_random, attack, by_scores, known, sampled, settings
    from hybrid_retrieval.evaluation.measures import SETTINGS
    from hybrid_retrieval.evaluation.protocol import Wanted
    from hybrid_retrieval.evaluation.retrievers.dense import Dense
    from hybrid_retrieval.reporting.attack import attack_tables
    from hybrid_retrieval.reporting.table import console, show
    from hybrid_retrieval.search import load_encoder

    names = chosen.candidates.split(",")
    for name in names:
        choice("--candidates", name, CANDIDATES)
    wanted_settings = list(SETTINGS) if chosen.settings is None else chosen.settings.split(",")
    for name in wanted_settings:
        choice("--settings", name, SETTINGS)
    whole, paths = load_benchmark(chosen.benchmark, chosen.override)
    if whole.contrasts is not None:
        raise InputError(f"benchmark {whole.name} is no test of retrieval; expected one such as xquad_r")
    if chosen.corpus_language is not None:
        choice("--corpus-language", chosen.corpus_language, whole.languages)
    corpus_language = chosen.corpus_language or ("en" if "en" in whole.languages else whole.languages[0])
    candidates = [CANDIDATES[name](paths) for name in dict.fromkeys(names)]
    languages = known(candidates, whole)
    for one in candidates:
        without = [language for language, of in languages.items() if one.name not in of]
        if without:
            print(f"{one.name} knows nothing of {', '.join(without)}: it needs {one.needs}", file=sys.stderr)
    if left_out := [language for language, of in languages.items() if not of]:
        print(f"left out, for no candidate knows them: {', '.join(left_out)}", file=sys.stderr)
    collection = sampled(whole, [language for language, of in languages.items() if of], chosen.queries, chosen.seed)
    if not len(collection.query):
        raise InputError(f"--candidates={chosen.candidates} knows no language of {whole.name} ({', '.join(languages)})")
    apart = list(settings(collection, wanted_settings, corpus_language))
    if not apart:
        raise InputError(f"--settings={chosen.settings}: {whole.name} has no judgement there")

    judge = load_encoder(chosen.judge, paths) if chosen.judge else None
    similarity = 0.8 if chosen.similarity is None else chosen.similarity
    how = Attack(candidates, chosen.words, chosen.variants, chosen.seed, judge, similarity)
    retrievers: dict[str, AskedAgain] = {
        name: Dense(load_encoder(model, paths)) for name, model in _named(chosen.models).items()
    }
    indices = {name: one.index(collection, name) for name, one in retrievers.items()}
    attackers = [RANDOM, *retrievers]
    found: dict[tuple[str, str], list[Degradation]] = {(one, two): [] for one in attackers for two in retrievers}
    queries: list[dict[str, Any]] = []
    for setting, part in apart:
        attacks = {
            name: attack(by_scores(one, indices[name], part), part, setting, how, name) for name, one in retrievers.items()
        }
        attacks[RANDOM] = attack(at_random(), part, setting, how)
        for name, of in attacks.items():
            queries += _rows(part, name, setting, of)
        _transfer(retrievers, indices, part, setting, attacks, Wanted((), chosen.replicates, chosen.seed), found)
    facts = {
        "benchmark": whole.name,
        "fingerprint": whole.fingerprint,
        **{key: str(value) if isinstance(value, Path) else value for key, value in vars(chosen).items() if key != "benchmark"},
        "corpus_language": corpus_language,
        "similarity": similarity if judge else None,
        "languages": languages,
    }
    _write(chosen.out, found, queries, facts)
    show(console(), *attack_tables(whole.name, found))
    print(f"wrote {chosen.out}")


def _check(chosen: argparse.Namespace) -> None:
    """Refuse numbers out of their ranges, and a folder that is there."""
    check(RANGES, {key: getattr(chosen, key.strip("-")) for key in RANGES}, "")
    if chosen.similarity is not None and chosen.judge is None:
        raise InputError(f"--similarity={chosen.similarity} needs --judge=RUN|MODEL, whose cosine it is")
    check_new(chosen.out, "--out")
    _named(chosen.models)


def _named(models: Sequence[str]) -> dict[str, str]:
    """By the last part of its path, or by all of it where several end alike."""
    last = [Path(model).expanduser().resolve().name for model in models]
    named = {name if last.count(name) == 1 else model: model for name, model in zip(last, models, strict=True)}
    if len(named) < len(models):
        raise InputError(
            f"{next(model for model in models if models.count(model) > 1)} is named twice; expected different ones"
        )
    return named


def _transfer(
    retrievers: Mapping[str, AskedAgain],
    indices: Mapping[str, Index],
    collection: RetrievalCollection,
    setting: str,
    attacks: Mapping[str, Sequence[Attacked]],
    wanted: Wanted,
    found: Mapping[tuple[str, str], list[Degradation]],
) -> None:
    """Every attack on every encoder, in one setting, added to `found`."""
    from hybrid_retrieval.evaluation.attack import answered, lost

    clean: dict[str, list[LanguagePair]] = {
        name: answered(one, indices[name], collection, setting, {}) for name, one in retrievers.items()
    }
    work = [(attacker, attacked, words) for attacker, attacked in found for words in range(1, len(attacks[attacker][0].texts))]
    for attacker, attacked, words in track(work, f"scoring, {setting}", len(work)):
        texts = {query.row: query.texts[words] for query in attacks[attacker]}
        after = answered(retrievers[attacked], indices[attacked], collection, setting, texts)
        changed = {query.row for query in attacks[attacker] if query.made[words]}
        found[attacker, attacked].extend(lost(collection, attacker, words, clean[attacked], after, changed, wanted))


def _rows(
    collection: RetrievalCollection, attacker: str, setting: str, attacked: Sequence[Attacked]
) -> Iterator[dict[str, Any]]:
    """The changed queries: a row for each budget of words, from none."""
    for query in attacked:
        for words, (text, margin, made) in enumerate(zip(query.texts, query.margins, query.made, strict=True)):
            yield {
                "benchmark": collection.name,
                "attacker": attacker,
                "setting": setting,
                "query_language": query.view.query_language,
                "corpus_language": query.view.corpus_language,
                "query_id": collection.queries.ids[query.row],
                "words": words,
                "changed": len(made),
                "by": ",".join(one.kind for one in made),
                "text": text,
                "margin": None if attacker == RANDOM else margin,
                "scored": 0 if attacker == RANDOM else query.scored,
            }


def _write(
    folder: Path,
    found: Mapping[tuple[str, str], Sequence[Degradation]],
    queries: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> None:
    """The folder, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    work = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rows = [
        {"attacker": attacker, "attacked": attacked, "words": int(one.severity), **vars(one), "measure": one.measure.name}
        for (attacker, attacked), of in found.items()
        for one in of
    ]
    for name, table in ((FIGURES, rows), (QUERIES, queries)):
        pq.write_table(
            pa.Table.from_pylist(list(table)).drop_columns([*({"perturbation", "severity"} & {*table[0]})]), work / name
        )
    write_text(work / SETTINGS_FILE, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    work.replace(folder)


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
