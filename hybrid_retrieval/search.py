"""``python -m hybrid_retrieval.search RUN|MODEL CORPUS``: questions in, the best passages out."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_retrieval.command import set_up_process, with_exit_code
from hybrid_retrieval.errors import InputError, outlive_readers, printable

if TYPE_CHECKING:
    from hybrid_retrieval.evaluation.scoring.index import PassageIndex
    from hybrid_retrieval.evaluation.scoring.passages import StoredPassages
    from hybrid_retrieval.models.encoder import Encoder

DESCRIPTION = """Search a corpus with a trained run or a published encoder. The corpus is encoded once; its embeddings are kept,
by weights and text, and opened memory-mapped. A build that is killed goes on where it was."""
EPILOG = """Questions are those of --query; else the lines of a pipe; else they are asked for. CORPUS is .jsonl, .jsonl.gz or
.parquet with text and, where they are there, _id or id, title and language; .txt or .txt.gz, a passage a line; or a folder in
BEIR's form, with corpus.jsonl in it or in a sub-folder a language."""
EXACT = "exact"
TYPES = (EXACT, "ivf", "hnsw")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
AT_ONCE = 256
"""Questions of a pipe that are answered together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the questions of the command line, of a pipe, or of the person at the terminal."""
    parser = argparse.ArgumentParser("hybrid-retrieval search", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("model", metavar="RUN|MODEL", help="a run, an evaluation, or a published encoder by directory or name")
    parser.add_argument("corpus", metavar="CORPUS", type=Path, help="a file, or a folder in BEIR's form")
    parser.add_argument("--query", metavar="TEXT", nargs="+", action="extend", help="a question, or several")
    parser.add_argument("--top", metavar="N", type=int, default=10, help="passages of a question (default: 10)")
    parser.add_argument("--language", metavar="NAME[,NAME ...]", help="only passages in these languages; exact")
    parser.add_argument("--json", action="store_true", help="a JSON object a question, one a line")
    parser.add_argument("--paragraphs", action="store_true", help="of plain text: a passage ends at an empty line")
    parser.add_argument(
        "--index-type",
        choices=TYPES,
        default=EXACT,
        help="ivf, hnsw: approximate, by faiss; recall is printed (default: exact)",
    )
    parser.add_argument("--index", metavar="DIR", help="where the index is kept (default: the cache)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("hybrid_retrieval").setLevel(logging.INFO)
    with_exit_code(lambda: search(chosen))
    return 0


def search(chosen: argparse.Namespace) -> None:
    """Open the index, building what is not there of it, and answer.

    Raises:
        InputError: an argument, the corpus or what was stored of it is at fault.
    """
    if chosen.top < 1:
        raise InputError(f"--top={chosen.top}; expected 1 or more")
    if empty := sum(not question.strip() for question in chosen.query or ()):
        raise InputError(f"--query: {empty} of {len(chosen.query)} questions are empty; expected text")
    searcher = Searcher.open(chosen)
    show = as_json if chosen.json else as_table
    for questions in _questions(chosen.query):
        for question, hits in zip(questions, searcher.answers(questions, chosen.top), strict=True):
            show(question, hits)


@dataclass(frozen=True)
class Hit:
    """A passage that was found."""

    id: str
    language: str
    score: float
    text: str


@dataclass(frozen=True)
class Searcher:
    """An encoder, and the passages that it finds."""

    encoder: Encoder
    passages: StoredPassages
    index: PassageIndex

    @classmethod
    def open(cls, chosen: argparse.Namespace) -> Searcher:
        """From the command line."""
        from hybrid_retrieval.cache import Cache
        from hybrid_retrieval.config import PathsConfig
        from hybrid_retrieval.evaluation.scoring import index
        from hybrid_retrieval.evaluation.scoring.passages import StoredPassages

        started = time.monotonic()
        if chosen.index_type != EXACT:
            index.import_faiss(chosen.index_type)
        paths = PathsConfig()
        cache = Cache.at(chosen.index, "--index") if chosen.index else Cache.at(paths.cache)
        passages = StoredPassages.open(chosen.corpus.expanduser(), cache, chosen.paragraphs)
        rows = None if chosen.language is None else passages.rows_in([*map(str.strip, chosen.language.split(","))])
        encoder = load_encoder(chosen.model, paths)
        vectors = index.open_vectors(encoder, passages, cache)
        found: PassageIndex
        how = EXACT
        if chosen.index_type == EXACT or rows is not None:
            found = index.Exact(vectors, str(getattr(encoder, "device", "cpu")), rows)
        else:
            found = index.open_approximate(chosen.index_type, encoder, passages, vectors, cache)
            recall, questions = found.facts[f"recall@{index.DEPTH}"], found.facts["questions"]
            how = f"{chosen.index_type}: recall@{index.DEPTH} {recall:.3f} of exact search ({questions} passages as questions)"
        count = f"{len(passages):,}" if rows is None else f"{len(rows):,} of {len(passages):,}"
        seconds = time.monotonic() - started
        languages = printable(", ".join(passages.languages))
        print(f"{count} passages ({languages}), {how}, ready in {seconds:.1f} s", file=sys.stderr)
        return cls(encoder, passages, found)

    def answers(self, questions: Sequence[str], top: int) -> Iterator[list[Hit]]:
        """The best passages of each question, best first."""
        found = self.index.search(self.encoder.encode(questions, "query"), top)
        for rows, scores in zip(found.documents.tolist(), found.scores.tolist(), strict=True):
            hits = [(row, score) for row, score in zip(rows, scores, strict=True) if row >= 0]
            of = self.passages
            yield [Hit(of.ids[row], of.language[row], score, of.texts[row]) for row, score in hits]


def load_encoder(model: str, paths: Any) -> Encoder:
    """The encoder of a run directory, that of an evaluation, or a published one by its directory or name.

    It is loaded as `hybrid_retrieval.evaluate` loads it.
    """
    import hydra
    from omegaconf import OmegaConf

    from hybrid_retrieval.config import EvaluationConfig, config_directory
    from hybrid_retrieval.evaluate import EvaluateConfig, encoder_to_score
    from hybrid_retrieval.run_record import CONFIG

    path, trained, node, which = Path(model).expanduser(), None, None, "best"
    if (path / "checkpoints").exists():
        trained = path
    elif (path / CONFIG).exists():
        trained, node, which = _evaluated(path)
    elif path.is_dir() and not (path / "config.json").exists() and not (path / "modules.json").exists():
        raise InputError(
            f"{path} is neither a run directory (config.yaml, checkpoints) nor a model's (config.json, modules.json)"
        )
    elif not path.exists() and not HUB_NAME.fullmatch(model):
        raise InputError(f"{model} is not there; expected a run directory, or a published model's directory or name")
    else:
        with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
            composed: Any = OmegaConf.to_container(hydra.compose("model/published"))
        node = {**composed["model"], "path" if path.is_dir() else "name": str(path) if path.is_dir() else model}
    encoder = encoder_to_score(trained, EvaluateConfig(EvaluationConfig(checkpoint=which), paths, {}, {}, {}, node))
    assert encoder is not None
    return encoder


def _evaluated(directory: Path) -> tuple[Path | None, Any, str]:
    """Of an evaluation's directory the run that it scored, or else the config of its model; and which checkpoint."""
    from hybrid_retrieval.models.concatenated import ConcatenatedEncoder
    from hybrid_retrieval.models.published import PublishedModel
    from hybrid_retrieval.run_record import CONFIG, read_config
    from hybrid_retrieval.values import locate

    saved = read_config(directory)
    if "retriever" in (saved.get("choices") or {}):
        raise InputError(f"{directory} holds the figures of a retriever, no encoder; expected the directory above baselines/")
    if isinstance(run := saved.get("checkpoint"), str):
        return Path(run), None, str((saved.get("evaluation") or {}).get("checkpoint", "best"))
    node, key = saved.get("model"), f"{directory / CONFIG}: model._target_"
    if not isinstance(node, dict) or "training" in saved:  # of a run without checkpoints it is where training began
        raise InputError(f"{directory} holds no checkpoint, and is no evaluation of a model")
    kinds = PublishedModel, ConcatenatedEncoder  # an endpoint that a file names would be sent the corpus, and a key
    if locate(str(node.get("_target_")), kinds, key, read=True) not in kinds:
        raise InputError(f"{key}={node['_target_']!r} is not loaded; expected a published encoder, or several as one")
    return None, node, "best"


def _questions(given: Sequence[str] | None) -> Iterator[Sequence[str]]:
    """Those of the command line, of a pipe, or of a person, as many together as are answered together."""
    if given:
        yield given
    elif not sys.stdin.isatty():
        lines = filter(None, map(str.strip, sys.stdin))
        yield from iter(lambda: [*islice(lines, AT_ONCE)], [])
    else:
        yield from ([question] for question in _asked())


def _asked() -> Iterable[str]:
    """Questions of a person, until there is none."""
    import contextlib
    import readline  # noqa: F401 (input() then knows the keys that move and the questions before)

    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while question := input("question> ").strip():
            yield question


def as_json(question: str, hits: Sequence[Hit]) -> None:
    """A line for a question."""
    print(json.dumps({"query": question, "passages": [vars(hit) for hit in hits]}, ensure_ascii=False), flush=True)


def as_table(question: str, hits: Sequence[Hit]) -> None:
    """A table for a question; what does not fit the terminal's width is cut off."""
    from rich.markup import escape
    from rich.table import Table

    from hybrid_retrieval.reporting.table import console

    shown = Table(title=escape(printable(question)), title_justify="left", title_style="bold", expand=True)
    for name, justify in (("", "right"), ("Score", "right"), ("Language", "left"), ("Id", "left")):
        shown.add_column(name, justify=justify, no_wrap=True, max_width=24)  # type: ignore[arg-type]
    shown.add_column("Passage", no_wrap=True, overflow="ellipsis", ratio=1)  # the width that is left
    for place, hit in enumerate(hits, 1):
        texts = (escape(printable(text)) for text in (hit.language, hit.id, hit.text))
        shown.add_row(str(place), f"{hit.score:.4f}", *texts)
    console().print(shown)


if __name__ == "__main__":
    outlive_readers()
    set_up_process()
    sys.exit(main())
