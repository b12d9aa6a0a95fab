"""mteb both ways: our encoders in its evaluation, our collections as its tasks, with the figures that ours gives."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import mteb
import numpy as np
import numpy.typing as npt
import pytest
import torch
from mteb.mocks.mock_tasks import MockRetrievalTask
from mteb.models import EncoderProtocol
from mteb.types import PromptType

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.protocol import evaluate
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.scoring.embeddings import EmbeddingStore
from hybrid_retrieval.interop.mteb_encoder import MtebEncoder
from hybrid_retrieval.interop.mteb_task import CollectionTask
from hybrid_retrieval.models.encoder import BiEncoder, Role
from hybrid_retrieval.training.fit import prepare

OURS = {
    "map": "map_at_1000",
    "mrr": "mrr_at_1000",
    "mrr@10": "mrr_at_10",
    "recall@1": "recall_at_1",
    "recall@10": "recall_at_10",
    "recall@100": "recall_at_100",
    "ndcg@10": "ndcg_at_10",
}


@dataclass
class Given:
    """Embeddings that are a function of role and text; what was asked for is remembered."""

    asked: list[tuple[Role, list[str]]] = field(default_factory=list)

    def encode(self, texts: Sequence[str], role: Role, label: str = "") -> npt.NDArray[np.float32]:
        self.asked.append((role, list(texts)))
        seeds = [zlib.crc32(f"{role} {text}".encode()) for text in texts]
        return np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds]).astype(np.float32)


def collection(**more: object) -> RetrievalCollection:
    """Ragged: a query of English and all documents of some answers are not in every language; one answer is graded."""
    sizes = {"de": (12, 46), "en": (13, 46), "zh_tw": (12, 55)}
    queries = {name: [(f"q{i}", f"{name} question {i}") for i in range(count)] for name, (count, _) in sizes.items()}
    corpus = {name: [(f"d{i}", f"{name} text {i}") for i in range(count)] for name, (_, count) in sizes.items()}
    answers = {
        language: [(f"q{i}", f"d{(7 * i + more) % 40}", 1 + more) for i in range(12 - place) for more in range(2)]
        for place, language in enumerate(sizes)
    }
    return replace(RetrievalCollection.parallel("given_r", queries, corpus, answers, tuple(OURS)), **more)  # type: ignore[arg-type]


@pytest.fixture
def bi_encoder(job: Callable[..., JobConfig]) -> BiEncoder:
    return prepare(job()).module.encoder


def scores(model: MtebEncoder, task: object) -> dict[str, dict[str, float]]:
    """By subset."""
    (result,) = mteb.evaluate(model, task, cache=None, show_progress_bar=False).task_results
    return {one["hf_subset"]: one for one in result.scores["test"]}


@pytest.mark.parametrize("setting", ["monolingual", "crosslingual", "multilingual"])
def test_a_collection_as_a_task_has_the_figures_of_our_own_evaluation(setting: str) -> None:
    given = collection()
    wanted = evaluate(Dense(Given()), given).metrics
    found = scores(MtebEncoder(Given(), "given"), CollectionTask(given, setting))
    names = {key.split("/")[3] for key in wanted if key.startswith(f"given_r/{setting}/map/")}
    assert set(found) == names
    assert len(names) == (6 if setting == "crosslingual" else 3)
    for name in names:
        for ours, theirs in OURS.items():
            assert found[name][theirs] == pytest.approx(wanted[f"given_r/{setting}/{ours}/{name}"], abs=6e-6), (name, ours)
        assert found[name]["main_score"] == found[name]["map_at_1000"]
    assert 0.01 < np.mean([one["ndcg_at_10"] for one in found.values()]) < 0.9


def test_ties_are_ordered_as_ours() -> None:
    class Flat(Given):
        def encode(self, texts: Sequence[str], role: Role, label: str = "") -> npt.NDArray[np.float32]:
            return np.ones((len(texts), 2), np.float32)

    given = collection()
    wanted = evaluate(Dense(Flat()), given).metrics
    found = scores(MtebEncoder(Flat(), "flat"), CollectionTask(given))
    assert found["de"]["map_at_1000"] == pytest.approx(wanted["given_r/multilingual/map/de"], abs=6e-6)


def test_a_deeper_search_is_full_depth() -> None:
    given = collection()
    wanted = evaluate(Dense(Given()), given).metrics["given_r/multilingual/map/en"]
    full, cut = CollectionTask(given, depth=len(given.corpus)), CollectionTask(given, depth=100)
    assert full.metadata.main_score == f"map_at_{len(given.corpus)}"
    model = MtebEncoder(Given(), "given")
    assert scores(model, full)["en"]["main_score"] == pytest.approx(wanted, abs=6e-6)
    assert scores(model, cut)["en"]["main_score"] < wanted - 1e-5


def test_queries_and_documents_get_their_roles_and_only_what_is_asked_for_is_encoded() -> None:
    given, encoder = collection(), Given()
    task = CollectionTask(given, "monolingual")
    task.hf_subsets = ["en"]
    scores(MtebEncoder(encoder, "given"), task)
    asked = {role: [text for one, texts in encoder.asked if one == role for text in texts] for role in ("query", "passage")}
    assert asked["query"] == [f"en question {i}" for i in range(11)]  # the others have no answer in English
    assert sorted(asked["passage"]) == sorted(f"en text {i}" for i in range(46))


def test_a_task_says_what_it_is() -> None:
    given = collection()
    task = CollectionTask(given)
    assert task.metadata.name == "given_r_multilingual"
    assert task.metadata.eval_langs == {"de": ["deu-Latn"], "en": ["eng-Latn"], "zh_tw": ["zho-Hant"]}
    assert CollectionTask(given, "crosslingual").metadata.eval_langs["de-en"] == ["deu-Latn", "eng-Latn"]
    names = {"swh_Latn": "swh-Latn", "s0": "und-Zyyy"}
    other = RetrievalCollection.build(
        "x", {name: [("q", "q")] for name in names}, {"s0": [("d", "d")]}, {(name, "s0"): [("q", "d", 1)] for name in names}
    )
    assert CollectionTask(other).metadata.eval_langs == {name: [code] for name, code in names.items()}
    assert CollectionTask(replace(given, measures=("ndcg@10", "recall@100"))).metadata.main_score == "ndcg_at_10"
    changed = replace(given, grade=given.grade[::-1].copy())
    assert task.metadata.revision == CollectionTask(collection()).metadata.revision != CollectionTask(changed).metadata.revision


def test_what_mteb_cannot_do_is_refused() -> None:
    given = collection()
    with pytest.raises(InputError, match="'multilingual'"):
        CollectionTask(given, "multilingul")
    with pytest.raises(InputError, match="depth=50"):
        CollectionTask(given, depth=50)
    with pytest.raises(InputError, match="hides documents"):
        CollectionTask(replace(given, excluded=np.array([[0, 1]])))
    alone = RetrievalCollection.build("alone", {"de": [("q", "q")]}, {"de": [("d", "d")]}, {("de", "de"): [("q", "d", 1)]})
    with pytest.raises(InputError, match="crosslingual"):
        CollectionTask(alone, "crosslingual")


def test_an_encoder_runs_a_task_of_mteb(bi_encoder: BiEncoder, tmp_path: Path) -> None:
    model = MtebEncoder(bi_encoder, "tiny")
    assert isinstance(model, EncoderProtocol)
    cache = mteb.ResultCache(tmp_path / "results")
    found = mteb.evaluate(model, MockRetrievalTask(), cache=cache, show_progress_bar=False).task_results[0]
    assert 0 < found.get_score() <= 1
    folder = tmp_path / "results" / "results" / "hybrid_retrieval__tiny" / model.mteb_model_meta.revision
    assert (folder / "MockRetrievalTask.json").exists()


def test_the_metadata_are_the_encoders(bi_encoder: BiEncoder) -> None:
    meta = MtebEncoder(bi_encoder, "mine/tiny").mteb_model_meta
    assert meta.name == "mine/tiny"
    assert meta.n_parameters == sum(weight.numel() for weight in bi_encoder.parameters()) > 0
    assert meta.memory_usage_mb == pytest.approx(meta.n_parameters * 4 / 2**20)
    assert meta.embed_dim == bi_encoder.dimensions
    assert meta.max_tokens == 128
    assert meta.similarity_fn_name.value == "cosine"
    before = meta.revision
    next(bi_encoder.parameters()).data[0] += 1
    assert MtebEncoder(bi_encoder, "mine/tiny").mteb_model_meta.revision != before
    plain = MtebEncoder(Given(), "given").mteb_model_meta
    assert (plain.n_parameters, plain.similarity_fn_name.value) == (None, "dot")


def test_similarity_is_the_dot_product() -> None:
    left, right = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    model = MtebEncoder(Given(), "given")
    np.testing.assert_allclose(model.similarity(left, right).numpy(), left @ right.T, rtol=1e-5)
    np.testing.assert_allclose(model.similarity(left[0], right).numpy(), left[:1] @ right.T, rtol=1e-5)
    np.testing.assert_allclose(model.similarity_pairwise(left, right).numpy(), (left * right).sum(1), rtol=1e-5)


def test_a_store_encodes_a_shared_pool_once(tmp_path: Path) -> None:
    @dataclass
    class Known(Given):
        def fingerprint(self, role: Role) -> str:
            return f"known {role}"

    given, encoder = collection(), Known()
    task = CollectionTask(given)
    found = scores(MtebEncoder(encoder, "known", EmbeddingStore(Cache(tmp_path), "float32")), task)
    assert sum(len(texts) for role, texts in encoder.asked if role == "passage") == len(given.corpus)
    plain = scores(MtebEncoder(Given(), "given"), task)
    assert {name: one["map_at_1000"] for name, one in found.items()} == {
        name: one["map_at_1000"] for name, one in plain.items()
    }


def test_a_run_directory_is_a_model(bi_encoder: BiEncoder, tmp_path: Path) -> None:
    (tmp_path / "my_run" / "checkpoints").mkdir(parents=True)
    weights = {f"encoder.{name}": value for name, value in bi_encoder.state_dict().items()}
    content = {"state_dict": weights, "hyper_parameters": {"encoder": bi_encoder.description()}}
    torch.save(content, tmp_path / "my_run" / "checkpoints" / "last.ckpt")
    model = MtebEncoder.of_run(tmp_path / "my_run")
    assert model.mteb_model_meta.name == "hybrid_retrieval/my_run"
    assert model.mteb_model_meta.revision == MtebEncoder(bi_encoder, "x").mteb_model_meta.revision
    texts = ["b0 c1", "d2", "e0 e1 " * 80]  # the last is cut as a query, not as a passage
    task = MockRetrievalTask().metadata
    for kind, role in ((None, "query"), (PromptType.query, "query"), (PromptType.document, "passage")):
        batches = [{"text": texts[:2]}, {"text": texts[2:]}]
        found = model.encode(batches, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=kind)
        np.testing.assert_array_equal(found, bi_encoder.encode(texts, role))
    with pytest.raises(InputError, match="holds no checkpoint"):
        MtebEncoder.of_run(tmp_path / "nowhere")
