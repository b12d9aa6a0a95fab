"""Tests of differences: against scipy where they must agree, against brute force, and by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from hybrid_retrieval.evaluation.statistics.mixed_effects import contributions, crossed_difference, crossed_mean
from hybrid_retrieval.evaluation.statistics.resampling import panel_means, sign_flip_p_values
from hybrid_retrieval.evaluation.statistics.significance import (
    holm,
    macro_p_values,
    paired_difference,
    significance_clusters,
    system_mean,
)


def ragged(rng: np.random.Generator, questions: int, views: int, share: float = 0.7) -> np.ndarray:
    """A panel without an empty question or view."""
    panel = rng.normal(0.2, 1, (questions, views))
    absent = rng.random(panel.shape) > share
    absent[np.arange(questions), np.arange(questions) % views] = False
    return np.where(absent, np.nan, panel)


def brute_force_flips(differences: np.ndarray, clusters: np.ndarray | None = None) -> np.ndarray:
    """Every pattern of signs of whole questions or clusters, its figures from the definition."""
    clusters = np.arange(len(differences)) if clusters is None else clusters

    def figures(panel: np.ndarray) -> np.ndarray:
        means = [np.mean([value for value in column if not np.isnan(value)]) for column in panel.T]
        return np.abs([*means, np.mean(means)])

    observed = figures(differences)
    patterns = list(itertools.product([1, -1], repeat=int(clusters.max()) + 1))
    hits = sum(figures(np.array(signs)[clusters, None] * differences) >= observed - 1e-12 for signs in patterns)
    return hits / len(patterns)


class TestSignFlips:
    def test_few_questions_are_enumerated(self) -> None:
        differences = ragged(np.random.default_rng(0), 9, 3)
        assert np.allclose(sign_flip_p_values(differences, 512, 0), brute_force_flips(differences))

    def test_the_questions_of_a_cluster_change_sign_together(self) -> None:
        differences, clusters = ragged(np.random.default_rng(4), 20, 2), np.arange(20) % 8
        assert np.allclose(sign_flip_p_values(differences, 256, 0, clusters=clusters), brute_force_flips(differences, clusters))

    def test_ties_count_whatever_the_rounding(self) -> None:
        differences = np.random.default_rng(1).choice([-0.1, 0.1, 0.3, 0.0], (10, 2))
        assert np.allclose(sign_flip_p_values(differences, 1024, 0), brute_force_flips(differences))

    def test_one_view_agrees_with_scipy(self) -> None:
        rng = np.random.default_rng(2)
        ours, theirs = rng.normal(0.1, 1, (2, 11))
        theirs = theirs - 0.6
        exact = scipy.stats.permutation_test(
            (ours, theirs), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
        )
        assert sign_flip_p_values((ours - theirs)[:, None], 2**11, 0) == pytest.approx([exact.pvalue] * 2)

    def test_enumeration_in_blocks(self) -> None:
        differences = ragged(np.random.default_rng(6), 8, 2)
        assert np.allclose(sign_flip_p_values(differences, 256, 0, cells=100), brute_force_flips(differences))

    def test_random_signs_come_near_the_exact_p_and_are_a_function_of_the_seed(self) -> None:
        differences = ragged(np.random.default_rng(3), 12, 2)
        exact = sign_flip_p_values(differences, 2**12, 0)
        drawn = sign_flip_p_values(differences, 2**12 - 1, 0)
        assert np.allclose(drawn, exact, atol=0.03)
        assert not np.array_equal(drawn, exact)
        assert np.array_equal(drawn, sign_flip_p_values(differences, 2**12 - 1, 0))

    def test_p_is_never_zero_and_one_without_a_difference(self) -> None:
        assert sign_flip_p_values(np.full((100, 1), 0.5), 99, 0) == pytest.approx([0.01, 0.01])
        assert sign_flip_p_values(np.zeros((100, 2)), 99, 0) == pytest.approx([1, 1, 1])

    def test_blocks_change_nothing(self) -> None:
        differences = ragged(np.random.default_rng(4), 40, 3)
        whole = sign_flip_p_values(differences, 500, 0)
        assert np.array_equal(sign_flip_p_values(differences, 500, 0, cells=1000), whole)

    def test_size_under_the_null_hypothesis_with_eleven_translations(self) -> None:
        rng = np.random.default_rng(5)
        p = []
        for _ in range(300):
            differences = rng.standard_t(3, (60, 1)) + 0.3 * rng.standard_normal((60, 11))
            p.append(sign_flip_p_values(differences, 199, 0)[-1])
        assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


class TestCrossedEffects:
    def test_a_single_run_each_is_the_paired_t_test(self) -> None:
        ours, theirs = np.random.default_rng(0).normal(0, 1, (2, 1, 30))
        expected = scipy.stats.ttest_rel(ours[0], theirs[0])
        bounds = expected.confidence_interval()
        found = crossed_difference(ours, theirs)
        assert (found.value, found.p) == pytest.approx((np.mean(ours - theirs), expected.pvalue))
        assert (found.low, found.high) == pytest.approx(tuple(bounds))

    def test_without_question_effects_it_is_welchs_test_of_the_seeds_means(self) -> None:
        rng = np.random.default_rng(1)
        ours = np.repeat(rng.normal(1, 1, (4, 1)), 50, axis=1)
        theirs = np.repeat(rng.normal(0, 2, (3, 1)), 50, axis=1)
        expected = scipy.stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False)
        bounds = expected.confidence_interval()
        found = crossed_difference(ours, theirs)
        assert found.p == pytest.approx(expected.pvalue)
        assert (found.low, found.high) == pytest.approx(tuple(bounds))

    def test_variance_components_are_those_of_the_two_way_layout(self) -> None:
        """The variance of the mean by sums of squares, as in a textbook's table."""
        rng = np.random.default_rng(2)
        seeds, questions = 4, 200
        values = rng.normal(0, 0.1, (seeds, 1)) + rng.normal(0, 1, questions) + rng.normal(0, 0.5, (seeds, questions))
        mean, by_seed, by_question = values.mean(), values.mean(axis=1), values.mean(axis=0)
        square_seed = questions * ((by_seed - mean) ** 2).sum() / (seeds - 1)
        square_question = seeds * ((by_question - mean) ** 2).sum() / (questions - 1)
        residual = values - by_seed[:, None] - by_question + mean
        square_error = (residual**2).sum() / ((seeds - 1) * (questions - 1))
        parts = np.array([square_seed, square_question - square_error]) / (seeds * questions)
        quantiles = scipy.stats.t.ppf(0.975, [seeds - 1, questions - 1])
        half = quantiles @ parts / np.sqrt(parts.sum())
        found = crossed_mean(values)
        assert (found.low, found.value, found.high) == pytest.approx((mean - half, mean, mean + half))

    def test_a_negative_component_is_none(self) -> None:
        """The error of two seeds cancels in every question, so that questions vary less than error alone makes them."""
        error = np.random.default_rng(6).normal(0, 1, 50)
        values = np.stack([error - error.mean() + 0.3, error.mean() - error])
        half = scipy.stats.t.ppf(0.975, 1) * 0.3 / 2
        found = crossed_mean(values)
        assert (found.low, found.high) == pytest.approx((0.15 - half, 0.15 + half))

    def test_p_and_interval_agree(self) -> None:
        ours, theirs = np.random.default_rng(3).normal(0, 1, (2, 3, 40))
        found = crossed_difference(ours + 0.4, theirs)
        edge = crossed_difference(ours + 0.4, theirs, confidence=1 - found.p)
        assert 0.0001 < found.p < 0.9
        assert edge.low == pytest.approx(0, abs=1e-9)

    def test_the_same_values_in_every_run_are_certain(self) -> None:
        values = np.full((3, 10), 0.5)
        assert crossed_difference(values, values).p == 1
        assert crossed_difference(values, values - 0.25).p == 0

    @pytest.mark.parametrize(
        ("seeds", "of_seeds", "error"),
        [*((3, of_seeds, error) for of_seeds in (0.0, 0.5, 0.9, 1.0) for error in (0.1, 2.0)), (5, 0.5, 2.0)],
    )
    def test_intervals_cover_whatever_varies(self, seeds: int, of_seeds: float, error: float) -> None:
        """`of_seeds`: their part in the variance of the mean, the rest being questions and error."""
        rng = np.random.default_rng(4)
        questions, trials = 100, 800
        scale = np.sqrt(of_seeds * seeds / questions / max(1 - of_seeds, 1e-2))
        covered = 0
        for _ in range(trials):
            main = scale * rng.standard_normal((seeds, 1)) + (of_seeds < 1) * rng.standard_normal(questions)
            found = crossed_mean(main + error * (of_seeds < 1 or 0.01) * rng.standard_normal((seeds, questions)))
            covered += found.low <= 0 <= found.high
        assert 0.935 <= covered / trials <= 0.98

    @pytest.mark.parametrize(("ours", "theirs", "scale"), [(3, 3, 1.0), (3, 3, 0.03), (3, 1, 1.0), (5, 3, 0.1), (3, 3, 0.0)])
    def test_intervals_of_a_difference_cover(self, ours: int, theirs: int, scale: float) -> None:
        rng = np.random.default_rng(5)
        questions, trials = 100, 600
        covered = 0
        for _ in range(trials):
            shared = 2 * rng.standard_normal(questions)
            sides = [
                shared
                + 0.3 * rng.standard_normal(questions)
                + scale * (seeds > 1) * rng.standard_normal((seeds, 1))
                + 0.2 * rng.standard_normal((seeds, questions))
                for seeds in (ours, theirs)
            ]
            found = crossed_difference(*sides)
            covered += found.low <= 0 <= found.high
        assert 0.935 <= covered / trials <= 0.98


class TestContributions:
    def test_their_mean_is_the_macro_mean(self) -> None:
        panel = ragged(np.random.default_rng(0), 30, 4)
        assert contributions(panel).mean() == pytest.approx(panel_means(panel)[-1])

    def test_complete_views_contribute_their_mean(self) -> None:
        panel = np.random.default_rng(1).random((20, 5))
        assert contributions(panel) == pytest.approx(panel.mean(axis=1))

    def test_their_variance_is_that_of_the_jackknife(self) -> None:
        panel = ragged(np.random.default_rng(2), 2000, 3)
        left_out = [panel_means(np.delete(panel, row, axis=0))[-1] for row in range(400)]
        influence = 1999 * (panel_means(panel)[-1] - np.array(left_out))
        assert np.allclose(contributions(panel)[:400] - panel_means(panel)[-1], influence, atol=0.02)


class TestSystems:
    def test_a_single_run_each_has_the_mean_difference_and_a_randomisation_p(self) -> None:
        rng = np.random.default_rng(0)
        ours, theirs = ragged(rng, 300, 3), rng.normal(0, 1, (300, 3))
        theirs = np.where(np.isnan(ours), np.nan, theirs)
        found = paired_difference(ours[None], theirs[None], 999, 0)
        assert found.value == pytest.approx([*np.nanmean(ours - theirs, axis=0), np.nanmean(ours - theirs, axis=0).mean()])
        assert np.array_equal(found.p, sign_flip_p_values(ours - theirs, 999, 0))
        assert (found.low < found.value).all()
        assert (found.value < found.high).all()

    def test_several_seeds_of_ragged_views(self) -> None:
        rng = np.random.default_rng(1)
        holes = np.isnan(ragged(rng, 80, 3))
        ours, theirs = (np.where(holes, np.nan, rng.normal(shift, 1, (3, 80, 3))) for shift in (0.5, 0.0))
        found = paired_difference(ours, theirs, 10, 0)
        one_view = crossed_difference(ours[:, ~holes[:, 1], 1], theirs[:, ~holes[:, 1], 1])
        expected = (one_view.value, one_view.low, one_view.high, one_view.p)
        assert (found.value[1], found.low[1], found.high[1], found.p[1]) == pytest.approx(expected)
        macro = np.nanmean(ours, axis=1).mean() - np.nanmean(theirs, axis=1).mean()
        assert found.value[-1] == pytest.approx(macro)
        assert found.low[-1] < macro < found.high[-1]

    def test_swapping_the_systems_swaps_the_signs(self) -> None:
        ours, theirs = np.random.default_rng(2).normal(0, 1, (2, 3, 30, 2))
        one, other = paired_difference(ours, theirs, 1, 0), paired_difference(theirs, ours, 1, 0)
        assert one.low == pytest.approx(-other.high)
        assert one.p == pytest.approx(other.p)

    def test_a_mean_over_seeds_is_wider_than_that_of_one_run(self) -> None:
        rng = np.random.default_rng(3)
        runs = rng.normal(0, 0.5, (3, 1, 1)) + rng.normal(0, 1, (300, 2))
        single, several = system_mean(runs[:1], 500, 0), system_mean(runs, 500, 0)
        assert several[2] - several[1] > 2 * (single[2] - single[1])
        assert several[0] == pytest.approx(runs.mean())

    @pytest.mark.parametrize("seeds", [1, 3])
    def test_questions_of_a_page_make_no_finding_out_of_nothing(self, seeds: int) -> None:
        """A difference of 0 with pages of 5 questions that go up and down together: 5% of the trials find one."""
        rng, clusters, trials = np.random.default_rng(6), np.repeat(np.arange(60), 5), 400
        found, naive = 0, 0
        for _ in range(trials):
            of_page = rng.standard_normal(60)[clusters]
            ours = of_page + 0.5 * rng.standard_normal(300) + 0.1 * rng.standard_normal((seeds, 300))
            theirs = 0.1 * rng.standard_normal((seeds, 300))
            sides = [side[:, :, None] for side in (ours, theirs)]
            one = paired_difference(*sides, 199, 0, clusters)
            found += one.p[-1] < 0.05
            assert one.low[-1] < one.value[-1] < one.high[-1]
            naive += paired_difference(*sides, 199, 0).p[-1] < 0.05
        assert 0.02 <= found / trials <= 0.08
        assert naive / trials > 0.2


class TestHolm:
    def test_it_is_the_closed_test_of_bonferroni(self) -> None:
        """Corrected p of a hypothesis: the largest Bonferroni p of all sets of hypotheses that hold it."""
        p = np.random.default_rng(0).random(7) ** 3
        p[3] = p[5]
        expected = [
            max(
                min(1, len(chosen) * min(p[list(chosen)]))
                for size in range(1, 8)
                for chosen in itertools.combinations(range(7), size)
                if one in chosen
            )
            for one in range(7)
        ]
        assert holm(p) == pytest.approx(expected)

    def test_no_hypotheses(self) -> None:
        assert len(holm([])) == 0


class TestClusters:
    def test_a_boundary_needs_every_system_above_to_beat_every_one_below(self) -> None:
        significant = np.ones((5, 5), bool)
        assert significance_clusters(significant) == [[0], [1], [2], [3], [4]]
        significant[1, 3] = significant[3, 1] = False
        assert significance_clusters(significant) == [[0], [1, 2, 3], [4]]
        significant[0, 4] = significant[4, 0] = False
        assert significance_clusters(significant) == [[0, 1, 2, 3, 4]]

    def test_nothing_is_significant(self) -> None:
        assert significance_clusters(np.zeros((3, 3), bool)) == [[0, 1, 2]]
        assert significance_clusters(np.zeros((0, 0), bool)) == []


def test_p_of_many_pairs_is_that_of_each() -> None:
    """Ragged panels in clusters: systems of one run, and one of three."""
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 25, 60)
    missing = rng.random((60, 3)) < 0.3
    missing[missing.all(axis=1)] = False
    ease = rng.normal(0.5, 0.2, (1, 60, 1))
    systems = [
        np.where(missing, np.nan, ease + gain + rng.normal(0, 0.1, (runs, 60, 3)))
        for gain, runs in ((0, 1), (0.02, 1), (0.05, 1), (0.02, 3))
    ]
    pairs = [(one, other) for number, one in enumerate(systems) for other in systems[:number]]
    expected = [float(paired_difference(*pair, 2000, 3, clusters).p[-1]) for pair in pairs]
    assert macro_p_values(pairs, 2000, 3, clusters) == pytest.approx(expected, abs=1e-12)
    assert macro_p_values([], 2000, 3) == []
    assert 0.001 < min(expected[:3]) < 0.2
