"""Students that start from a teacher say what it says, as far as they share its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import BiEncoder, Model
from hybrid_retrieval.models.from_teacher import WORD, StaticFromTeacher, TransformerFromTeacher, shared_words
from hybrid_retrieval.models.published import PublishedModel
from tests.models.small_models import TEXTS, TrainingSample, load, write_run

KNOWN = ["text format", "choose style", "copied sheet formulas when"]
LENGTHS = {"max_query_length": 40, "max_passage_length": 40}


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    return PathsConfig(cache=str(tmp_path / "cache"))


def built(model: Model) -> BiEncoder:
    torch.manual_seed(1)
    return model.build(model.tokenizer(TrainingSample())).eval()


def words_alone(encoder: BiEncoder, teacher: BiEncoder) -> list[str]:
    """Those of `KNOWN` that both tokenizers take for whole words."""
    shared = shared_words(encoder.tokenizer, teacher.tokenizer)
    return [text for text in KNOWN if set(encoder.tokenizer.encode(text, add_special_tokens=False).ids) <= shared.keys()]


def test_shared_words_are_the_same_words(bert_like: Path, paths: PathsConfig) -> None:
    teacher = load(bert_like)
    student = built(StaticFromTeacher(paths, dimensions=32, vocabulary=500, teacher=str(bert_like)))
    shared = shared_words(student.tokenizer, teacher.tokenizer)
    assert len(shared) > 10
    for here, there in shared.items():
        assert student.tokenizer.id_to_token(here) == WORD + teacher.tokenizer.id_to_token(there)


def test_a_static_student_embeds_a_shared_word_as_the_teacher_does(bert_like: Path, paths: PathsConfig) -> None:
    teacher = load(bert_like)
    student = built(StaticFromTeacher(paths, dimensions=32, vocabulary=500, teacher=str(bert_like)))
    shared = shared_words(student.tokenizer, teacher.tokenizer)
    words = [teacher.tokenizer.id_to_token(there) for there in shared.values()]
    cosine = np.einsum(
        "wd,wd->w",
        student.backbone.table.weight.detach()[list(shared)].numpy(),
        teacher.encode(words, "passage"),
    )
    norms = student.backbone.table.weight.detach()[list(shared)].norm(dim=1).numpy()
    np.testing.assert_allclose(cosine, norms, rtol=1e-4)


def test_a_transformer_student_is_the_teacher_on_shared_words(bert_like: Path, paths: PathsConfig) -> None:
    teacher = load(bert_like)
    student = built(TransformerFromTeacher(paths, teacher=str(bert_like), vocabulary=500, **LENGTHS))
    texts = words_alone(student, teacher)
    assert texts
    np.testing.assert_allclose(student.encode(texts, "query"), teacher.encode(texts, "query"), atol=1e-5)
    foreign = ["Выберите стиль абзаца"]
    assert np.abs(student.encode(foreign, "query") - teacher.encode(foreign, "query")).max() > 0.01


def test_a_row_is_the_softmax_mean_of_the_nearest_shared_words(bert_like: Path, paths: PathsConfig, tmp_path: Path) -> None:
    static = built(StaticFromTeacher(paths, dimensions=32, vocabulary=500, teacher=str(bert_like)))
    run = write_run(static, tmp_path / "static")
    model = TransformerFromTeacher(paths, teacher=str(bert_like), static=str(run), neighbours=3, temperature=0.2, **LENGTHS)
    student = built(model)
    assert student.tokenizer.to_str() == static.tokenizer.to_str()
    teacher = load(bert_like)
    shared = shared_words(static.tokenizer, teacher.tokenizer)
    meaning = teacher.backbone.table.weight.detach().numpy()
    table = static.backbone.table.weight.detach().numpy().astype(np.float64)
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    known = teacher.tokenizer.get_vocab()
    others = (
        id_ for text, id_ in sorted(static.tokenizer.get_vocab().items()) if text[1:].isalpha() and f"##{text}" not in known
    )
    token = next(id_ for id_ in others if id_ not in shared)
    cosine = table[list(shared)] @ table[token]
    nearest = np.argsort(-cosine)[:3]
    weights = np.exp(cosine[nearest] / 0.2)
    expected = (weights / weights.sum()) @ meaning[np.array(list(shared.values()))[nearest]]
    np.testing.assert_allclose(student.backbone.table.weight.detach()[token].numpy(), expected, rtol=1e-3, atol=1e-5)


def test_frozen_layers_leave_the_table_alone_to_train(bert_like: Path, paths: PathsConfig) -> None:
    for layers, alone in (("frozen", True), ("trained", False)):
        student = built(TransformerFromTeacher(paths, teacher=str(bert_like), vocabulary=500, layers=layers, **LENGTHS))
        trained = {id(one) for one in student.parameters() if one.requires_grad}
        assert (trained == {id(student.backbone.table.weight)}) is alone


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": None}, "model.teacher=null"),
        ({"layers": "some"}, "model.layers='some'; expected frozen or trained"),
    ],
)
def test_bad_values_are_named(bert_like: Path, paths: PathsConfig, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TransformerFromTeacher(paths, **{"teacher": str(bert_like), **changes})


def test_a_static_student_must_be_as_wide_as_its_teacher(bert_like: Path, paths: PathsConfig) -> None:
    with pytest.raises(InputError, match=r"model\.dimensions=16; expected those of model\.teacher, 32"):
        built(StaticFromTeacher(paths, dimensions=16, vocabulary=500, teacher=str(bert_like)))


@pytest.mark.parametrize("kind", ["static", "transformer"])
@pytest.mark.parametrize("settings", [{}, {"projection": 7}])
def test_a_run_directory_is_a_start(kind: str, settings: dict[str, Any], make_encoder: Any, tmp_path: Path) -> None:
    encoder = make_encoder(kind, **settings)
    run = write_run(encoder, tmp_path / "run")
    model = PublishedModel(PathsConfig(), path=str(run))
    again = model.load()
    assert again.settings == encoder.settings
    for role in ("query", "passage"):
        np.testing.assert_allclose(again.encode(TEXTS, role), encoder.encode(TEXTS, role), atol=1e-6)
    assert all(one.requires_grad for one in again.parameters())
    again.backbone.table.weight.data.zero_()
    assert model.load().backbone.table.weight.abs().sum() > 0  # a second encoder is another one
    with torch.device("meta"):
        shapes = model.build(model.own_tokenizer())
    assert {one.device.type for one in shapes.parameters()} == {"meta"}
    shorter = PublishedModel(PathsConfig(), path=str(run), max_query_length=9).load()
    assert (shorter.settings.max_query_length, shorter.settings.max_passage_length) == (9, 64)


def test_a_transformer_student_is_a_start_of_which_all_is_trained(bert_like: Path, paths: PathsConfig, tmp_path: Path) -> None:
    student = built(TransformerFromTeacher(paths, teacher=str(bert_like), vocabulary=500, **LENGTHS))
    again = PublishedModel(paths, path=str(write_run(student, tmp_path / "run"))).load()
    np.testing.assert_allclose(again.encode(TEXTS, "query"), student.encode(TEXTS, "query"), atol=1e-6)
    assert all(one.requires_grad for one in again.parameters())
