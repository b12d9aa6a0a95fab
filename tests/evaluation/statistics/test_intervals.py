"""Cluster bootstrap: against scipy and a loop over the definition, and how often its intervals hold the truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.figures import Figures
from hybrid_retrieval.evaluation.language_pairs import LanguagePair, aggregate, language_pairs, with_intervals
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.statistics.resampling import bootstrap_intervals, panel_means, with_exact_limits


def brute_force(panel: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Draw rows, and take the mean of the means; nothing is drawn from one view without the others."""
    rng = np.random.default_rng(seed)
    figures = []
    for rows in rng.integers(0, len(panel), (replicates, len(panel))):
        means = [np.mean(column[~np.isnan(column)]) for column in panel[rows].T]
        figures.append([*means, np.mean(means)])
    return np.quantile(figures, [0.025, 0.975], axis=0)


class TestBootstrap:
    @pytest.mark.parametrize("absent", [0.0, 0.4])
    def test_it_is_the_definition(self, absent: float) -> None:
        rng = np.random.default_rng(0)
        panel = 1000 + rng.lognormal(0, 1, (50, 3))
        panel[rng.random(panel.shape) < absent] = np.nan
        assert np.allclose(bootstrap_intervals([panel], 200, 7)[0], brute_force(panel, 200, 7), rtol=0, atol=1e-5)

    def test_clusters_are_drawn_whole(self) -> None:
        rng = np.random.default_rng(8)
        panel = rng.normal(3, 1, (60, 3))
        panel[rng.random(panel.shape) < 0.3] = np.nan
        clusters = rng.integers(0, 20, 60)
        members = [np.flatnonzero(clusters == name) for name in dict.fromkeys(clusters.tolist())]
        figures = []
        for drawn in np.random.default_rng(7).integers(0, len(members), (300, len(members))):
            rows = panel[np.concatenate([members[number] for number in drawn])]
            means = np.nanmean(rows, axis=0)
            figures.append([*means, means.mean()])
        expected = np.quantile(figures, [0.025, 0.975], axis=0)
        assert np.allclose(bootstrap_intervals([panel], 300, 7, clusters=clusters)[0], expected, atol=1e-5)

    def test_clusters_of_one_question_change_nothing(self) -> None:
        panel = np.random.default_rng(9).random((40, 3))
        alone = np.arange(40)[::-1].copy()
        assert np.array_equal(bootstrap_intervals([panel], 100, 0, clusters=alone)[0], bootstrap_intervals([panel], 100, 0)[0])

    def test_one_view_agrees_with_scipy(self) -> None:
        values = np.random.default_rng(1).beta(0.5, 0.5, 400)
        theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=0).confidence_interval
        (low, macro_low), (high, macro_high) = bootstrap_intervals([values[:, None]], 9999, 0)[0]
        assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.003)
        assert (low, high) == pytest.approx((macro_low, macro_high))

    def test_panels_do_not_change_one_another(self) -> None:
        rng = np.random.default_rng(2)
        panels = [rng.random((30, views)) for views in (1, 4, 4)]
        panels[2][rng.random((30, 4)) < 0.5] = np.nan
        together = bootstrap_intervals(panels, 100, 0)
        for panel, bounds in zip(panels, together, strict=True):
            assert np.allclose(bootstrap_intervals([panel], 100, 0)[0], bounds, atol=1e-6)

    def test_blocks_change_nothing(self) -> None:
        panel = np.random.default_rng(3).random((40, 3))
        whole = bootstrap_intervals([panel], 333, 0)[0]
        assert np.allclose(bootstrap_intervals([panel], 333, 0, cells=400)[0], whole, atol=1e-6)

    def test_the_seed_decides(self) -> None:
        panel = np.random.default_rng(4).random((40, 3))
        one, same, other = (bootstrap_intervals([panel], 100, seed)[0] for seed in (1, 1, 2))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)

    def test_a_view_that_is_not_drawn_has_no_part_in_the_replicate(self) -> None:
        panel = np.random.default_rng(6).normal([0, 5], [1, 0], (12, 2))
        panel[2:, 1] = np.nan
        rng = np.random.default_rng(0)
        moved = []
        for rows in rng.integers(0, 12, (400, 12)):
            deviations = panel[rows] - np.nanmean(panel, axis=0)
            moved.append(np.mean([column[~np.isnan(column)].mean() for column in deviations.T if not np.isnan(column).all()]))
        expected = panel_means(panel)[-1] + np.quantile(moved, [0.025, 0.975])
        assert bootstrap_intervals([panel], 400, 0)[0][:, -1] == pytest.approx(expected, abs=1e-6)

    def test_views_of_no_and_of_one_question_have_no_bounds(self) -> None:
        panel = np.random.default_rng(5).random((20, 3))
        panel[:, 1] = np.nan
        panel[1:, 2] = np.nan
        low, high = bootstrap_intervals([panel], 200, 0)[0]
        assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True, True, False]
        assert panel_means(panel)[3] == pytest.approx((panel[:, 0].mean() + panel[0, 2]) / 2)
        assert low[3] < panel_means(panel)[3] < high[3]


class TestCoverage:
    """Nominal 95%, 600 trials: 93% to 97%, and chance (a standard error is 0.9%)."""

    TRIALS = 600

    def covered(
        self,
        draw: Callable[[np.random.Generator], np.ndarray],
        truth: float,
        naive: bool = False,
        clusters: np.ndarray | None = None,
    ) -> float:
        """How often the interval of the macro mean holds the truth; all trials are panels of one bootstrap."""
        rng = np.random.default_rng(0)
        panels = [draw(rng) for _ in range(self.TRIALS)]
        if naive:
            panels = [panel.reshape(-1, 1) for panel in panels]
        bounds = [found[:, -1] for found in bootstrap_intervals(panels, 500, 0, clusters=clusters)]
        return float(np.mean([low <= truth <= high for low, high in bounds]))

    def test_independent_questions(self) -> None:
        assert 0.92 <= self.covered(lambda rng: 1 / rng.geometric(0.5, (300, 1)), np.log(2)) <= 0.975

    def test_eleven_translations_of_a_question(self) -> None:
        def draw(rng: np.random.Generator) -> np.ndarray:
            return rng.standard_normal((100, 1)) + 0.5 * rng.standard_normal((100, 11))

        assert 0.92 <= self.covered(draw, 0) <= 0.975
        assert self.covered(draw, 0, naive=True) < 0.6

    def test_questions_of_a_paragraph_that_depend_on_one_another(self) -> None:
        """240 paragraphs of 1 to 9 questions, as in XQuAD-R, in three languages."""
        sizes = np.random.default_rng(1).integers(1, 10, 240)
        clusters = np.repeat(np.arange(240), sizes)

        def draw(rng: np.random.Generator) -> np.ndarray:
            of_paragraph = rng.standard_normal((240, 1))[clusters]
            return of_paragraph + rng.standard_normal((len(clusters), 1)) + 0.5 * rng.standard_normal((len(clusters), 3))

        assert 0.93 <= self.covered(draw, 0, clusters=clusters) <= 0.97
        assert self.covered(draw, 0) < 0.85

    def test_ragged_translations(self) -> None:
        def draw(rng: np.random.Generator) -> np.ndarray:
            panel = rng.standard_normal((150, 1)) + 0.5 * rng.standard_normal((150, 7))
            panel[rng.random(panel.shape) < 0.55] = np.nan
            return panel

        assert 0.92 <= self.covered(draw, 0) <= 0.975


def pairs_of(collection: RetrievalCollection, scorer: object) -> list[LanguagePair]:
    return list(language_pairs(collection, count_ranks(scorer, collection)))


def bounded(collection: RetrievalCollection, pairs: list[LanguagePair], replicates: int, seed: int) -> Figures:
    return Figures(tuple(with_intervals(list(aggregate("random", pairs)), collection, pairs, replicates, seed)))


class TestIntervalsOfFigures:
    def test_every_mean_lies_between_its_bounds(self, make_collection: Callable, tied_scorer: Callable) -> None:
        collection = make_collection(queries=60)
        figures = bounded(collection, pairs_of(collection, tied_scorer(collection)), 200, 0)
        for one in figures:
            if one.measure.name in ("queries", "left_out"):
                assert one.low is one.high is None
            else:
                assert one.low <= one.value <= one.high
        assert figures.get("random", "crosslingual", "map", "de-ar").margin > 0
        assert figures.get("random", "multilingual", "map", "zh").margin > 0

    def test_translations_are_drawn_together(self, make_collection: Callable, tied_scorer: Callable) -> None:
        """Bounds are those of panels whose rows are ids, however the rows of the collection lie."""
        collection = make_collection(queries=40)
        pairs = pairs_of(collection, tied_scorer(collection))
        mine = [pair for pair in pairs if pair.setting == "monolingual" and len(pair.queries)]
        ids = sorted({collection.queries.ids[row] for pair in mine for row in pair.queries})
        # Rows are in order of first occurrence in the collection, which decides what a seed draws.
        first = {id_: row for row, id_ in reversed(list(enumerate(collection.queries.ids)))}
        ids.sort(key=first.__getitem__)
        panel = np.full((len(ids), len(mine)), np.nan)
        for column, pair in enumerate(mine):
            for row, value in zip(pair.queries, pair.values["map"], strict=True):
                panel[ids.index(collection.queries.ids[row]), column] = value
        low, high = bootstrap_intervals([panel], 300, 5)[0]
        figure = bounded(collection, pairs, 300, 5).get("random", "monolingual", "map")
        assert (figure.low, figure.high) == pytest.approx((low[-1], high[-1]))

    def test_undefined_values_are_left_out(self, make_collection: Callable, tied_scorer: Callable) -> None:
        collection = make_collection(queries=40)
        pooled = [pair for pair in pairs_of(collection, tied_scorer(collection)) if pair.setting == "multilingual"]
        for pair in pooled:
            pair.values["map"][::2] = np.nan
        pooled[0].values["map"][:] = np.nan
        figures = bounded(collection, pooled, 100, 0)
        assert figures.get("random", "multilingual", "map", pooled[0].query_language).low is None
        assert np.isfinite([one.low for one in figures if one.low is not None]).all()
        assert figures.get("random", "multilingual", "map").low is not None


def test_at_a_limit_the_interval_is_clopper_and_pearsons() -> None:
    panel = np.ones((40, 3))
    panel[:, 1] = 0
    panel[0, 2] = 0.5
    panel[30:, 0] = np.nan
    bounds = bootstrap_intervals([panel], 200, 0)[0]
    found = with_exact_limits(bounds, panel)
    assert (bounds[:, 0] == 1).all()
    assert found[:, 0] == pytest.approx(list(scipy.stats.binomtest(30, 30).proportion_ci()))
    assert found[:, 1] == pytest.approx(list(scipy.stats.binomtest(0, 40).proportion_ci()))
    assert (found[:, 2:] == bounds[:, 2:]).all()
    clusters = np.arange(40) // 4
    ones = np.ones((40, 2))
    of_clusters = with_exact_limits(bootstrap_intervals([ones], 200, 0, clusters=clusters)[0], ones, clusters)
    for column in range(3):
        assert of_clusters[:, column] == pytest.approx(list(scipy.stats.binomtest(10, 10).proportion_ci()))
