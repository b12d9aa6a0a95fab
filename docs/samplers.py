"""What each sampler puts in a batch: the table and the pictures of explanation/samplers.md, from batches that are really drawn.

``python docs/samplers.py`` writes both anew; a test draws the batches and compares.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.reporting import charts, heatmap
from hybrid_retrieval.reporting.batch_composition import FILE, BatchComposition
from hybrid_retrieval.sampling.hybrid import Hybrid, HybridWithinBatch
from hybrid_retrieval.sampling.manifest import Manifest
from hybrid_retrieval.sampling.sampler import XX, XY, English, Sampler, XXMono
from hybrid_retrieval.training.collate import availability

HERE = Path(__file__).parent
START, END = "<!-- table -->", "<!-- end -->"
PAGE = HERE / "explanation" / "samplers.md"
STEPS, PAIRS, ALPHA = 200, 64, 0.5
DRAWN = ("x_x_mono", "x_y", "hybrid", "hybrid_within_batch")
"""Samplers with a picture: `x_x` has that of `x_x_mono`, and `english` one cell of it."""
SAMPLERS: dict[str, Sampler] = {
    "english": English(PAIRS),
    "x_x": XX(PAIRS),
    "x_x_mono": XXMono(PAIRS),
    "x_y": XY(PAIRS),
    "hybrid": Hybrid(PAIRS, alpha=ALPHA),
    "hybrid_within_batch": HybridWithinBatch(PAIRS, alpha=ALPHA),
}


def compositions(paths: PathsConfig) -> dict[str, tuple[BatchComposition, float]]:
    """The content of the batches of a run with each sampler over the FAQ, and language pairs a batch; nothing is trained."""
    source = BeirPairs(paths, str(HERE.parent / "examples" / "faq"), validation_share=0.0)
    sets = source.sets()
    found = {}
    for name, sampler in SAMPLERS.items():
        available = availability(sets, "train")
        composer = sampler.compose(available, seed=1, steps=STEPS)
        manifest = Manifest([one.name for one in sets], available.languages)
        for step in range(STEPS):
            manifest.add(step, composer.batch(step))
        with tempfile.TemporaryDirectory() as folder:
            manifest.write(Path(folder) / FILE)
            composition = BatchComposition.read(Path(folder))
        assert composition is not None
        found[name] = composition, manifest.rows.shape[1] / STEPS
    return found


def table(found: dict[str, tuple[BatchComposition, float]]) -> str:
    """The page's table."""
    lines = [
        "| sampler | Monolingual pairs | Language pairs drawn | In a batch, on average | Pairs of each |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, (composition, in_batch) in found.items():
        cells = list(composition.summary().values())
        lines.append(f"| `{name}` | {cells[2]} | {cells[4]} | {in_batch:.2f} | {cells[5]} |")
    return "\n".join(lines)


def main() -> None:
    """Write the table and the pictures."""
    found = compositions(PathsConfig())
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{before}{START}\n{table(found)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    for name in DRAWN:
        picture = found[name][0].draw(ALPHA if name.startswith("hybrid") else None)
        charts.save(heatmap.with_order(picture), PAGE.with_name(f"{name}.png"))


if __name__ == "__main__":
    main()
