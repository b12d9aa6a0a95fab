"""Batches in sentence-transformers' trainer are those of our composer, figures of its models those of our protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.data.sources.mixture import Mixture
from hybrid_retrieval.data.sources.synthetic import Synthetic
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.held_out import split_collection
from hybrid_retrieval.evaluation.protocol import Wanted, evaluate
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.interop.column_pairs import ColumnPairs
from hybrid_retrieval.interop.sentence_transformers_evaluator import MultilingualEvaluator
from hybrid_retrieval.interop.sentence_transformers_sampler import DrawnBatches, InOrder
from hybrid_retrieval.models.static import StaticModel
from hybrid_retrieval.sampling.hybrid import Hybrid, HybridWithinBatch
from hybrid_retrieval.sampling.sampler import XY, Sampler
from hybrid_retrieval.training.datamodule import HybridDataModule
from tests.conftest import command_environment
from tests.models.small_models import byte_pairs, load, write_tokenizer, xlmr

ROOT = Path(__file__).parents[1]
STEPS = 7
SAMPLERS = [
    Hybrid(batch_size=16, alpha=0.3),
    Hybrid(batch_size=16, schedule={"kind": "linear", "end": 0.1}, sub_batches=2),
    HybridWithinBatch(batch_size=12, alpha=0.4),
    XY(batch_size=8, language_choice="size"),
]
Texts = list[tuple[str, str]]


@pytest.fixture
def paths(cache: Path) -> PathsConfig:
    return PathsConfig(cache=str(cache))


def generated(paths: PathsConfig) -> Source:
    return Synthetic(paths=paths, items=200, concepts=200, languages=["s0", "s1", "s2"], missing=0.3)


def two_sets(paths: PathsConfig) -> Source:
    entries = [
        {"name": name, "dataset": "synthetic", "items": 150, "languages": found, "seed": seed} for name, found, seed in SETS
    ]
    return Mixture(paths, entries)


SETS = [("a", ["s0", "s1"], 1), ("b", ["s1", "s3"], 2)]


def composed(source: Source, sampler: Sampler, paths: PathsConfig, seed: int) -> list[Texts]:
    """The texts of the global batches that a training of ours has, read group by group."""
    encoder = StaticModel(paths, dimensions=8, vocabulary=800).encoder(source.text)
    data = HybridDataModule(source, encoder, sampler, seed=seed, steps=STEPS, progress=False)
    data.setup()
    languages, sets = data.collate.languages, source.sets()

    def text(table: Any, names: tuple[str, ...], group: int, language: int) -> str:
        return table.texts([int(table.rows[group, names.index(languages[language])])])[0]

    batches = []
    for batch in map(data.train_batches.batch, range(STEPS)):
        found = []
        columns = (batch.set_index, batch.edge, batch.query_language, batch.passage_language)
        for number, edge, asked, answered in zip(*(column.tolist() for column in columns), strict=True):
            one = sets[number]
            query, passage = one.edges[edge, :2].tolist()
            pair = text(one.queries, one.languages, query, asked), text(one.passages, one.languages, passage, answered)
            found.append(pair)
        batches.append(found)
    return batches


def rows(dataset: datasets.Dataset, batch: list[int]) -> Texts:
    found = dataset[batch]
    return list(zip(found["anchor"], found["positive"], strict=True))


@pytest.mark.parametrize("seed", [1, 5])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("make", [generated, two_sets])
def test_batches_are_those_of_our_composer(
    make: Callable[[PathsConfig], Source], sampler: Sampler, seed: int, paths: PathsConfig
) -> None:
    source = make(paths)
    drawn = DrawnBatches(source, sampler, STEPS, seed)
    batches = drawn.batch_sampler(drawn.dataset, batch_size=sampler.batch_size, drop_last=False, seed=99)
    assert len(batches) == STEPS
    assert [rows(drawn.dataset, batch) for batch in batches] == composed(source, sampler, paths, seed)


RANK = """
import json, sys
from pathlib import Path
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.interop.sentence_transformers_sampler import DrawnBatches
from hybrid_retrieval.models.static import StaticModel
from tests.test_sentence_transformers import SAMPLERS, STEPS, generated

source = generated(PathsConfig())
drawn = DrawnBatches(source, SAMPLERS[0], STEPS, 3)
tokenizer = StaticModel(PathsConfig(), vocabulary=800).tokenizer(source.text)
model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
given = SentenceTransformerTrainingArguments(
    sys.argv[1], max_steps=STEPS, per_device_train_batch_size=8, batch_sampler=drawn.batch_sampler, report_to="none",
    use_cpu=True, ddp_backend="gloo", save_strategy="no",
)
loss = MultipleNegativesRankingLoss(model, gather_across_devices=True)
trainer = SentenceTransformerTrainer(model, given, train_dataset=drawn.dataset, loss=loss)
file = Path(sys.argv[1]) / f"{given.process_index}.json"
file.write_text(json.dumps(list(trainer.get_train_dataloader().batch_sampler)))
trainer.train()
assert trainer.state.global_step == STEPS and trainer.state.epoch == 1
"""


def test_accelerate_deals_each_device_its_slice(paths: PathsConfig) -> None:
    dataset = DrawnBatches(generated(paths), SAMPLERS[0], STEPS, 3).dataset
    dealt = [BatchSamplerShard(InOrder(dataset, 4, False), 4, rank, even_batches=False) for rank in range(4)]
    found = [[text for part in parts for text in rows(dataset, part)] for parts in zip(*dealt, strict=True)]
    assert found == composed(generated(paths), SAMPLERS[0], paths, 3)


@pytest.mark.slow
def test_two_ranks_slices_are_the_batch_of_one(cache: Path, paths: PathsConfig, tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "rank.py"), str(tmp_path)]
    environment = command_environment(cache, CUDA_VISIBLE_DEVICES="")
    done = subprocess.run([sys.executable, *launch], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    source = generated(paths)
    dataset = DrawnBatches(source, SAMPLERS[0], STEPS, 3).dataset
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    whole = [[text for part in parts for text in rows(dataset, part)] for parts in zip(*ranks, strict=True)]
    assert whole == composed(source, SAMPLERS[0], paths, 3)


def test_what_would_give_other_batches_is_refused(paths: PathsConfig) -> None:
    drawn = DrawnBatches(generated(paths), SAMPLERS[0], STEPS)
    with pytest.raises(InputError, match=r"per_device_train_batch_size=8 on 1 devices; expected 16, for sampler.batch_size=16"):
        drawn.batch_sampler(drawn.dataset, batch_size=8, drop_last=False)
    with pytest.raises(InputError, match="train_dataset has 3 rows; expected the 112 drawn ones"):
        drawn.batch_sampler(drawn.dataset.select(range(3)), batch_size=16, drop_last=False)
    with pytest.raises(InputError, match=r"kind=adaptive decides during a run"):
        DrawnBatches(generated(paths), Hybrid(batch_size=16, schedule={"kind": "adaptive"}), STEPS)
    with pytest.raises(InputError, match="steps=0 must be above 0"):
        DrawnBatches(generated(paths), SAMPLERS[0], 0)


def columns(source: Source) -> datasets.Dataset:
    """The training pairs of a source in every pair of languages, as a user's table."""
    pairs = source.pairs()
    found: dict[str, list[Any]] = {name: [] for name in ("id", "anchor", "positive", "anchor_language", "positive_language")}
    for query, passage in pairs.split_edges("train")[:, :2].tolist():
        for asked, answered in np.ndindex(len(pairs.languages), len(pairs.languages)):
            places = int(pairs.queries.rows[query, asked]), int(pairs.passages.rows[passage, answered])
            if min(places) >= 0:
                texts = pairs.queries.texts([places[0]])[0], pairs.passages.texts([places[1]])[0]
                for name, value in zip(found, (query, *texts, pairs.languages[asked], pairs.languages[answered]), strict=True):
                    found[name].append(value)
    return datasets.Dataset.from_dict(found)


def test_columns_with_ids_give_the_batches_of_the_set_that_they_were(paths: PathsConfig) -> None:
    source = Synthetic(paths=paths, items=60, concepts=200, languages=["s0", "s1"], validation_share=0, test_share=0)
    given = ColumnPairs(columns(source), positive_language="positive_language", item="id", paths=paths)
    both = [DrawnBatches(one, SAMPLERS[0], STEPS).dataset for one in (source, given)]
    assert both[0][:] == both[1][:]


def test_columns_without_ids_are_drawn_in_the_languages_of_their_rows(paths: PathsConfig) -> None:
    kinds = [("de", "de"), ("en", "en"), ("en", "th")]
    lines = [(f"{asked} question {i}", f"{answered} text {i}", asked, answered) for i in range(40) for asked, answered in kinds]
    names = ("q", "p", "ql", "pl")
    table = datasets.Dataset.from_dict(dict(zip(names, zip(*lines, strict=True), strict=True)))
    source = ColumnPairs(table, "q", "p", "ql", "pl", paths=paths)
    dataset = DrawnBatches(source, Hybrid(batch_size=8, alpha=0.25), 20).dataset
    known = {line[:2]: line[2:] for line in lines}
    of_batches = [[known[pair] for pair in rows(dataset, list(range(start, start + 8)))] for start in range(0, len(dataset), 8)]
    counts = Counter(batch[0] == ("en", "th") for batch in of_batches)
    assert all(len(set(batch)) == 1 for batch in of_batches)
    assert counts == {True: 15, False: 5}


GOOD = {"anchor": ["a", "b"], "positive": ["c", "d"], "anchor_language": ["de", "en"]}


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, {"positive": "answer"}, "column 'answer' is not in the data set; it has: anchor, positive, anchor_language"),
        ({}, {"item": "id"}, "column 'id' is not in the data set"),
        ({"positive": ["c", None]}, {}, "column 'positive': 1 of 2 rows are without a text, first row 1"),
        ({"anchor": [" ", ""]}, {}, "column 'anchor': 2 of 2 rows are without a text, first row 0"),
        ({"anchor": [1, 2]}, {}, "column 'anchor': 2 of 2 rows are without a text"),
        ({"anchor_language": ["de", "a/b"]}, {}, "column 'anchor_language': 1 of 2 rows are without the name of a language"),
        ({"id": [None, 1]}, {"item": "id"}, "column 'id': 1 of 2 rows are without an id, first row 0"),
        (
            {"id": [1, 1], "anchor_language": ["de", "de"]},
            {"item": "id"},
            "column 'id': 1 has two texts of column 'anchor' in de",
        ),
    ],
)
def test_columns_that_are_no_pairs_are_one_line(
    change: dict[str, Any], options: dict[str, Any], said: str, paths: PathsConfig
) -> None:
    with pytest.raises(InputError) as error:
        ColumnPairs(datasets.Dataset.from_dict(GOOD | change), paths=paths, **options).pairs()
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small XLM-R with prompts, as sentence-transformers saves it."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = byte_pairs()
    xlmr(tokenizer.get_vocab_size() + 3, initializer_range=0.3).save_pretrained(folder / "plain")
    write_tokenizer(folder / "plain", tokenizer, pad_token="<|endoftext|>")
    transformer = Transformer(str(folder / "plain"), max_seq_length=40)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), "mean"), Normalize()]
    model = SentenceTransformer(modules=modules, prompts={"query": "ask: ", "document": "say: "}, device="cpu")
    model.save(str(folder / "saved"))
    return folder / "saved"


def test_figures_are_those_of_evaluate(saved: Path, paths: PathsConfig, tmp_path: Path) -> None:
    collection = split_collection(BeirPairs(paths, str(ROOT / "examples" / "faq"), ["de", "en", "es"]).pairs(), "test", "faq")
    wanted = Wanted(["rank_distance", "peer"], replicates=200)
    ours = load(saved, query_prefix="ask: ", passage_prefix="say: ")
    expected = evaluate(Dense(ours), collection, wanted=wanted)
    evaluator = MultilingualEvaluator(collection, wanted.bias, replicates=200)
    found = evaluator(SentenceTransformer(str(saved), device="cpu"), str(tmp_path), epoch=0.5, steps=3)
    means = {one.key for one in expected.figures if one.languages is None}
    keys = {key for key in expected.metrics if key.removesuffix(".low").removesuffix(".high") in means}
    assert found == pytest.approx({key: expected.metrics[key] for key in keys}, rel=1e-3)
    assert evaluator.evaluation.metrics == pytest.approx(expected.metrics, rel=1e-3)
    settings = ("monolingual/map", "crosslingual/map", "multilingual/map", "multilingual/rank_distance")
    assert {f"faq/{name}{bound}" for name in settings for bound in ("", ".low", ".high")} <= keys
    assert evaluator.primary_metric in found
    evaluator(SentenceTransformer(str(saved), device="cpu"), str(tmp_path))
    head, *lines = (tmp_path / "multilingual_evaluation_faq.csv").read_text().splitlines()
    assert head.startswith("epoch,steps,faq/monolingual/map,")
    assert [line.split(",")[:2] for line in lines] == [["0.5", "3"], ["-1", "-1"]]


def test_a_model_that_compares_by_distances_is_refused(saved: Path, paths: PathsConfig) -> None:
    collection = split_collection(generated(paths).pairs(), "test", "held_out")
    model = SentenceTransformer(str(saved), device="cpu", similarity_fn_name="euclidean")
    with pytest.raises(InputError, match=r"similarity_fn_name=euclidean is no product; expected cosine or dot"):
        MultilingualEvaluator(collection)(model)


@pytest.mark.slow
def test_the_example_runs_as_it_stands(cache: Path, tmp_path: Path) -> None:
    script = ROOT / "examples" / "sentence_transformers_hybrid.py"
    code = [line for line in script.read_text().splitlines() if line and not line.startswith(("from", "import", '"""'))]
    assert len(code) <= 30
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=command_environment(cache), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()[-4:]}
    assert found["crosslingual/map"] > 0.25
    assert found["multilingual/rank_distance"] < 100
