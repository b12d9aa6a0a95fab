"""``python -m hybrid_retrieval.export RUN --to DIR``: an encoder as a directory for sentence-transformers, and as ONNX."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_retrieval import run_record
from hybrid_retrieval.command import set_up_process, with_exit_code
from hybrid_retrieval.errors import InputError, exit_on_sigterm, outlive_readers, reading
from hybrid_retrieval.reporting.run_directory import is_run
from hybrid_retrieval.shipping.card import write_card

if TYPE_CHECKING:
    from hybrid_retrieval.models.encoder import BiEncoder, Encoder

DESCRIPTION = """Write the encoder of RUN into a new directory that SentenceTransformer(DIR) loads, without remote code.
Its embeddings are compared with those of RUN before it gets its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Export what the command line names; the exit code is 2 where it cannot be exported."""
    parser = argparse.ArgumentParser("hybrid-retrieval export", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory, or a model directory in the published layout")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="the directory to write: new, or empty")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="of the run (default: best)")
    parser.add_argument("--dimensions", metavar="N", type=int, help="keep the leading N dimensions (Matryoshka)")
    parser.add_argument("--onnx", choices=("float32", "int8"), help="also as ONNX, in DIR/onnx; int8: beside float32")
    parser.add_argument("--licence", metavar="NAME", help="of the weights, for the model card of a run, as apache-2.0")
    given = vars(parser.parse_args(arguments))
    with_exit_code(lambda: export(given.pop("run"), given.pop("to"), given.pop("checkpoint"), **given))
    return 0


def export(
    run: Path,
    to: Path,
    which: str = "best",
    dimensions: int | None = None,
    onnx: str | None = None,
    name: str | None = None,
    licence: str | None = None,
) -> None:
    """Write a run's encoder to a directory, with its model card; it appears whole and checked or not at all.

    Args:
        run: a run directory, or a model directory in the published layout.
        to: does not exist, or is empty.
        which: checkpoint of the run.
        dimensions: leading ones to keep.
        onnx: float32 or int8: the same as ONNX, too.
        name: of the model in its card; the directory's by default.
        licence: of the weights, for the card.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"--to {to} exists and is not an empty directory; expected a new one")
    final = to.resolve()
    if final.is_mount() or final == Path.cwd():
        raise InputError(f"--to {to} is mounted, or where you are, and cannot be replaced; expected a new directory in it")
    if dimensions is not None and dimensions < 1:
        raise InputError(f"--dimensions {dimensions}; expected a number above 0")
    if not run.is_dir():
        raise InputError(f"{run} is no directory; expected a run directory or a model directory")
    saved = run_record.read_config(run) if (run / run_record.CONFIG).exists() else {}
    if licence is not None and not saved:
        raise InputError(f"--licence {licence} is for the model card of a run, and {run} is none")

    from transformers.utils import logging as of_transformers

    from hybrid_retrieval.cache import check_writable, scratch, sweep
    from hybrid_retrieval.shipping import directory

    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    before = _encoder(run, which, saved)

    lengths, differs = before.settings, _differs(run, which, saved, before.dimensions, dimensions)
    encoder = directory.ready(before, dimensions)
    check_writable(final.parent, "--to: its parent")
    sweep(final.parent, [""])
    with scratch(final.parent) as work:
        folder = work / "export"
        folder.mkdir()
        directory.write(encoder, folder)
        print(f"checked: {directory.check(encoder, folder)}")
        if onnx:
            from hybrid_retrieval.shipping.onnx import write_onnx

            forms = []
            for line, form in write_onnx(folder, onnx):
                print(f"checked: {line}")
                forms.append(form)
            if onnx == "int8":
                print(_loss_of_map(encoder, forms[-1], saved))
        if is_run(run):
            write_card(run, folder, name or final.name, licence, differs)
        for file in folder.rglob("*.*"):
            file.chmod(0o644)  # whoever may read the directory
        if final.exists():
            final.rmdir()
        folder.rename(final)
    if encoder.settings.max_query_length != lengths.max_query_length:
        tokens = f"{encoder.settings.max_query_length} tokens, not to {lengths.max_query_length}"
        print(f"queries are read to {tokens}: a static model has one length there, the passages'")
    similarity = "cosine" if encoder.settings.normalize else "dot"
    print(f"exported to {to}, for sentence-transformers 6: {encoder.dimensions} dimensions, similarity {similarity}")


def _encoder(run: Path, which: str, saved: dict[str, Any]) -> BiEncoder:
    """The encoder of a run directory or of a model directory."""
    from hybrid_retrieval.config import PathsConfig
    from hybrid_retrieval.models.checkpoint import load_encoder
    from hybrid_retrieval.models.published import PublishedModel

    if not saved:
        return PublishedModel(PathsConfig(), path=str(run)).load()
    if not (run / "checkpoints").exists():
        model = saved.get("model")
        if isinstance(model, dict) and str(model.get("_target_", "")).endswith(".ApiEncoder"):
            raise InputError(f"{run} scored an endpoint (model=api), which has no weights to export")
        raise InputError(f"{run} holds no checkpoints; expected the directory of a training run")
    return load_encoder(run, which, accelerator="cpu")


def _differs(run: Path, which: str, saved: dict[str, Any], all_: int, dimensions: int | None) -> str | None:
    """In what an export is not the encoder that its run measured."""
    if not is_run(run):
        return None
    from hybrid_retrieval.models.checkpoint import checkpoint_path

    found = []
    measured = (saved.get("evaluation") or {}).get("checkpoint") or "best"
    paths = [checkpoint_path(run, str(one)).name for one in (measured, which)]
    if paths[0] != paths[1]:
        found.append(f"the figures are of {paths[0]}, and its weights are those of {paths[1]}")
    if dimensions is not None and dimensions < all_:
        found.append(f"the figures are of {all_} dimensions, of which it has the first {dimensions}")
    return "; ".join(found) or None


def _loss_of_map(encoder: Encoder, other: Encoder, saved: dict[str, Any]) -> str:
    """The mAP of another form of an encoder beside its own, on the first of the run's benchmarks that is at hand."""
    from hybrid_retrieval import benchmarking
    from hybrid_retrieval.config import EvaluationConfig, PathsConfig
    from hybrid_retrieval.data.source import Source
    from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
    from hybrid_retrieval.evaluation.protocol import Wanted, evaluate
    from hybrid_retrieval.evaluation.retrievers.dense import Dense
    from hybrid_retrieval.values import check_read, construct

    if not saved.get("benchmark"):
        return "int8's loss of mAP is not known: this is no run directory, which names its benchmarks"
    with reading(run_record.CONFIG, whole=True):
        check_read(saved["benchmark"], (Benchmark, Source), "benchmark")
        paths = construct(PathsConfig, saved.get("paths") or {}, "paths")
        found = benchmarking.load_benchmarks(saved["benchmark"], EvaluationConfig(bias="none"), paths, asked_by_name=False)
    name, benchmark = next(iter(found.items()))
    both = []
    for one, label in ((encoder, "float32"), (other, "int8")):
        scored = evaluate(Dense(one), benchmark.collection, f"{name} ({label})", Wanted(bias=())).figures.metrics()
        key = next(key for key in scored if key.endswith("multilingual/map"))
        both.append(scored[key])
    return f"{key}: {both[0]:.4f} in float32, {both[1]:.4f} in int8 ({both[1] - both[0]:+.4f})"


if __name__ == "__main__":
    outlive_readers()
    set_up_process()
    exit_on_sigterm()
    sys.exit(main())
