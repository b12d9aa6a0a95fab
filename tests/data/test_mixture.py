"""Several sets at once: which, under which names, and how often each is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from hybrid_retrieval.config import PathsConfig, choice_values, config_directory
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.data.sources.mixture import Mixture
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.values import build

Write = Callable[..., Path]


@pytest.fixture
def two(write_beir: Write) -> None:
    """Sets ``small`` (10 edges; de, en) and ``large`` (160 edges; de, en, fi) below the data folder."""
    for folder, count, languages in (("small", 10, ("de", "en")), ("large", 160, ("de", "en", "fi"))):
        queries = {language: {f"q{i}": f"{language} question {i}" for i in range(count)} for language in languages}
        passages = {language: {f"p{i}": f"{language} passage {i}" for i in range(count)} for language in languages}
        write_beir(
            queries, passages, {name: [(f"q{i}", f"p{i}", 1) for i in range(count)] for name in languages}, folder=folder
        )


def entry(folder: str, **more: Any) -> dict[str, Any]:
    return {"path": folder, "validation_share": 0.0, **more}


@pytest.mark.parametrize(
    ("choice", "expected"), [("uniform", 3 / 2), ("size", 30 / 320), (1, 30 / 320), (2.0, 3 * 10**0.5 / (2 * 160**0.5))]
)
def test_weights_multiply_the_sizes_to_the_inverse_temperature(
    choice: str | float, expected: float, paths: PathsConfig, two: None
) -> None:
    sets = Mixture(paths, [entry("small", weight=3), entry("large", weight=2)], set_choice=choice).sets()
    assert [pairs.name for pairs in sets] == ["small", "large"]
    np.testing.assert_allclose(sets[0].weight / sets[1].weight, expected)


def test_size_counts_training_edges_alone(paths: PathsConfig, two: None) -> None:
    sets = Mixture(paths, [entry("small", validation_share=1.0), entry("large")], set_choice="size").sets()
    assert [pairs.weight for pairs in sets] == [0.0, 160.0]
    sets = Mixture(paths, [entry("small", validation_share=1.0), entry("large")], set_choice="uniform").sets()
    assert [pairs.weight for pairs in sets] == [0.0, 1.0]
    with pytest.raises(InputError, match="none of the sets has a pair to train on"):
        Mixture(paths, [entry("small", validation_share=1.0)]).sets()


def test_names_are_the_entries_own_and_distinct(paths: PathsConfig, two: None) -> None:
    mixture = Mixture(paths, [entry("small", name="a"), entry("small", name="b"), entry("large")])
    assert [pairs.name for pairs in mixture.sets()] == ["a", "b", "large"]
    assert [record["name"] for record in mixture.provenance()] == ["a", "b", "large"]
    assert all(record["path"].endswith(record["name"][-5:]) for record in mixture.provenance()[2:])
    assert [record["license"] for record in mixture.provenance()] == [None, None, None]
    for entries in ([entry("small"), entry("small")], [entry("small", name="large"), entry("large")]):
        with pytest.raises(InputError, match=r"dataset\.sources\[1\]\.name='(small|large)' is taken"):
            Mixture(paths, entries)


def test_a_member_takes_the_values_of_its_own_config(paths: PathsConfig, two: None) -> None:
    sources = [
        {"name": "synthetic", "items": 50, "test_share": 0.0},
        {"dataset": "synthetic", "name": "more", "seed": 5, "items": 60},
    ]
    assert [record["license"] for record in Mixture(paths, sources).provenance()] == ["none needed", "none needed"]
    first, second = Mixture(paths, sources).sets()
    defaults = choice_values("dataset", "synthetic")
    assert first.meta["provenance"]["items"] == 50
    assert first.meta["provenance"]["test_share"] == 0.0
    for key in ("validation_share", "test_share"):
        assert second.meta["provenance"][key] == defaults[key]
    assert second.meta["provenance"]["seed"] == 5
    assert len(second.edges) == 60


def test_languages_go_to_the_members_that_name_none(paths: PathsConfig, two: None) -> None:
    sources = [entry("small"), entry("large", languages=["en", "fi"])]
    sets = Mixture(paths, sources, languages=["de"]).sets()
    assert [pairs.languages for pairs in sets] == [("de",), ("en", "fi")]
    assert Mixture(paths, [entry("large")]).sets()[0].languages == ("de", "en", "fi")


def test_each_member_reads_those_of_the_languages_that_it_has(paths: PathsConfig, two: None) -> None:
    synthetic = {"name": "synthetic", "items": 20}
    sets = Mixture(paths, [entry("small"), entry("large"), synthetic], languages=["fi", "de", "s5"]).sets()
    assert [pairs.languages for pairs in sets] == [("de",), ("de", "fi"), ("s5",)]
    own = entry("large", name="own", languages=["en"])
    assert [pairs.languages for pairs in Mixture(paths, [entry("small"), own], languages=["de", "en"]).sets()] == [
        ("de", "en"),
        ("en",),
    ]
    with pytest.raises(InputError, match=r"^dataset\.languages asks for 'fr', which no set has; expected one of: de, fi$"):
        Mixture(paths, [entry("small"), entry("large")], languages=["de", "fi", "fr"])
    with pytest.raises(
        InputError, match=r"^dataset\.sources\[0\]: 'small' has none of dataset\.languages=\['fi'\]; it has: de, en$"
    ):
        Mixture(paths, [entry("small"), entry("large")], languages=["fi"])
    with pytest.raises(InputError, match=r"^dataset\.sources\[0\]: 'small' has none of dataset\.languages=\[\]"):
        Mixture(paths, [entry("small")], languages=[])


def test_sets_of_every_kind_compose_on_the_command_line(paths: PathsConfig, two: None, tmp_path: Path) -> None:
    files = {
        "text/de-DE.tsv": "a\tEins zwei\nb\tDrei\n",
        "text/zh_TW.tsv": "a\t一二\n",
        "text/parts.tsv": "id\tpart\na\ttrain\nb\ttrain\n",
        "words/deu.tsv": "n1\tHaus|Heim\n",
        "words/fra.tsv": "n1\tmaison\n",
        "names/fr.tsv": "city\tx\tVille\tbourg | cité\n",
        "packages/de.jsonl": '["m", "ein Leser", ["Liest Post."]]\n',
        "qa/faq-fr/train.questions.jsonl": '{"id": 1, "question": "Qui ?", "passage": 0}\n',
        "qa/faq-fr/train.passages.jsonl": '{"id": 0, "title": "T", "text": "Moi."}\n',
    }
    for place, text in files.items():
        (tmp_path / "local" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "local" / place).write_text(text)
    entries = [
        "{name: text, dataset: parallel_text, path: text, split_file: parts.tsv, split_column: part, license: gpl-2.0}",
        "{dataset: omw_lexicon, path: words, validation_share: 0, weight: 0.5}",
        "{dataset: cldr_names, path: names, validation_share: 0}",
        "{dataset: debian_descriptions, path: packages, validation_share: 0}",
        "{dataset: qa_native, path: qa, validation_share: 0}",
        "{path: small, validation_share: 0}",
    ]
    sources = f"dataset.sources=[{', '.join(entries)}]"
    shared = ["dataset=mixture", f"paths.data={paths.data}", "dataset.languages=[de,fr,zh_tw]"]
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = OmegaConf.to_container(hydra.compose("config", [*shared, sources]).dataset, resolve=True)
    assert isinstance(composed, dict)
    mixture = build({str(key): value for key, value in composed.items()}, Source, "dataset", paths=paths)
    sets = {pairs.name: pairs.languages for pairs in mixture.sets()}
    assert sets == {
        "text": ("de", "zh_tw"),
        "omw_lexicon": ("de", "fr"),
        "cldr_names": ("fr",),
        "debian_descriptions": ("de",),
        "qa_native": ("fr",),
        "small": ("de",),
    }
    assert all(len(pairs.split_edges("train")) for pairs in mixture.sets())
    licenses = {one["name"]: one["license"] for one in mixture.provenance()}
    assert licenses["text"] == "gpl-2.0"
    assert licenses["cldr_names"] == "unicode-3.0"
    assert all(licenses[name] for name in sets if name != "small")


def test_only_reading_tells_the_languages_of_some_members(paths: PathsConfig, two: None, tmp_path: Path) -> None:
    file = tmp_path / "local" / "rows.jsonl"
    file.write_text('{"query": "wer", "passage": "der", "language": "de"}\n')
    fixed = {"dataset": "hub", "name": "fixed", "path": "rows.jsonl", "language": "fi", "validation_share": 0.0}
    sets = Mixture(paths, [entry("small"), fixed], languages=["de", "fi"]).sets()
    assert [pairs.languages for pairs in sets] == [("de",), ("fi",)]
    unknown = {"dataset": "hub", "name": "unknown", "path": "rows.jsonl", "validation_share": 0.0}
    with pytest.raises(InputError, match=r"dataset\.languages asks for 'fi', which rows lacks"):
        Mixture(paths, [entry("large"), unknown], languages=["de", "fi"]).sets()
    with pytest.raises(InputError, match=r"gone is not a folder"):
        Mixture(paths, [entry("gone"), entry("large")], languages=["de", "fi"]).sets()


def test_one_set_can_be_a_benchmark_and_several_cannot(paths: PathsConfig, two: None) -> None:
    assert Mixture(paths, [entry("small", name="alone")]).pairs().name == "alone"
    with pytest.raises(InputError, match=r"holds several sets \(small, large\) where one is needed, as for a benchmark"):
        Mixture(paths, [entry("small"), entry("large")]).pairs()


def test_it_is_at_hand_where_all_members_are(paths: PathsConfig, two: None) -> None:
    assert Mixture(paths, [entry("small"), entry("large")]).at_hand()
    assert not Mixture(paths, [entry("small"), entry("gone")]).at_hand()


def test_the_config_file_builds_it(paths: PathsConfig, two: None) -> None:
    node = OmegaConf.to_container(OmegaConf.load(config_directory() / "dataset" / "mixture.yaml"))
    assert isinstance(node, dict)
    values = {str(key): value for key, value in node.items()}
    mixture = build({**values, "sources": [entry("small"), entry("large")]}, Source, "dataset", paths=paths)
    assert [pairs.weight for pairs in mixture.sets()] == [10.0, 160.0]
    with pytest.raises(InputError, match=r"dataset\.sources is empty"):
        build(values, Source, "dataset", paths=paths)


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ([{"name": "sinthetic"}], {}, r"sources\[0\]\.name='sinthetic' is no known set .*did you mean 'synthetic'"),
        ([{"dataset": "mmarko"}], {}, r"sources\[0\]\.dataset='mmarko' is unknown; did you mean 'mmarco'"),
        ([{"dataset": "mixture"}], {}, r"sources\[0\]\.dataset='mixture' is unknown"),
        (
            [{"path": "small", "langages": ["de"]}],
            {},
            r"unknown config key dataset\.sources\[0\]\.langages; did you mean 'languages'",
        ),
        ([{"path": 3}], {}, r"dataset\.sources\[0\]\.path=3 has the wrong type"),
        ([{"path": "small"}, {"path": "large", "weight": 0}], {}, r"sources\[1\]\.weight=0 must be above 0"),
        ([{"path": "small", "weight": "much"}], {}, r"sources\[0\]\.weight='much' has the wrong type"),
        ([{"path": "small", "name": 4}], {}, r"sources\[0\]\.name=4 has the wrong type"),
        (["small"], {}, r"sources\[0\]='small' is not a mapping"),
        ([{"path": "small"}], {"set_choice": "sise"}, r"dataset\.set_choice='sise' is unknown"),
        ([{"path": "small"}], {"set_choice": 0.5}, r"dataset\.set_choice=0.5 is unknown"),
        ([{"path": "small"}], {"set_choice": True}, r"dataset\.set_choice=True is unknown"),
    ],
)
def test_what_the_config_gets_wrong_is_named(
    sources: list[Any], options: dict[str, Any], message: str, paths: PathsConfig, two: None
) -> None:
    with pytest.raises(InputError, match=message):
        Mixture(paths, sources, **options)
