"""The laws of the samplers, on full, ragged and tiny sets, against brute force."""

import pickle
from collections import Counter
from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import binomtest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.composer import BLOCK as STREAM_BLOCK
from hybrid_retrieval.sampling.hybrid import Hybrid, HybridWithinBatch
from hybrid_retrieval.sampling.ratio import BLOCK, Bernoulli, Exact, Schedule, constant
from hybrid_retrieval.sampling.sampler import XX, XY, English, XXMono

from .brute_force import build, full, ragged

SIZE = 20
LANGUAGES = ["en", "de", "th", "zh"]
SAMPLERS = {
    "english": English(SIZE),
    "x_x": XX(SIZE),
    "x_x_mono": XXMono(SIZE),
    "x_y": XY(SIZE),
    "hybrid": Hybrid(SIZE, alpha=0.3),
    "hybrid_bernoulli": Hybrid(SIZE, alpha=0.6, ratio_mode="bernoulli"),
    "hybrid_within_batch": HybridWithinBatch(SIZE, alpha=0.33),
    "by_size": Hybrid(SIZE, language_choice="size"),
    "by_temperature": HybridWithinBatch(SIZE, language_choice=3.0),
}


@pytest.fixture(params=SAMPLERS.values(), ids=SAMPLERS)
def sampler(request):
    return request.param


def rows(batch):
    """A batch as a list of (set, edge, query language, passage language)."""
    return list(zip(*(column.tolist() for column in astuple(batch)), strict=True))


def items(batch):
    return [row[:2] for row in rows(batch)]


def same_language(batch):
    return batch.query_language == batch.passage_language


# Every pair exists and comes once.


def test_every_pair_exists_and_no_item_comes_twice(sampler, truth):
    composer = sampler.compose(truth.available, seed=5)
    for step in range(30):
        batch = composer.batch(step)
        assert len(batch) == SIZE
        assert all(truth.exists(*row) for row in rows(batch))
        assert len(set(items(batch))) == SIZE


def test_cells_are_the_brute_force_ones(truth):
    available = truth.available
    count = len(available.languages)
    for same in (True, False):
        found = {}
        for cell in available.cells(same_language=same):
            ranges = zip(cell.starts.tolist(), cell.stops.tolist(), strict=True)
            edges = [edge for bounds in ranges for edge in range(*bounds)]
            found[cell.set_index, cell.query_language, cell.passage_language] = edges
        expected = {
            (index, left, right): sorted(truth.cell(index, left, right))
            for index in range(len(available.sets))
            for left in range(count)
            for right in range(count)
            if (left == right) == same and truth.cell(index, left, right)
        }
        assert found == expected


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_batch_can_take_every_item_of_a_tiny_set(sampler, count):
    truth = build(full(LANGUAGES, count))
    whole = type(sampler)(**{**vars(sampler), "batch_size": count}).compose(truth.available, seed=3)
    for step in range(30):
        batch = whole.batch(step)
        assert sorted(items(batch)) == [(0, edge) for edge in range(count)]
        assert all(truth.exists(*row) for row in rows(batch))


def test_edges_with_one_number_in_two_sets_are_two_items(sampler):
    truth = build(full(LANGUAGES, 4), full(LANGUAGES, 4))
    whole = type(sampler)(**{**vars(sampler), "batch_size": 8}).compose(truth.available, seed=3)
    for step in range(30):
        assert sorted(items(whole.batch(step))) == [(index, edge) for index in (0, 1) for edge in range(4)]


def test_a_batch_that_takes_all_ragged_items_keeps_its_kind():
    only_en, only_de = (["en"], ["en"], 7), (["de"], ["de"], 1)
    both = (["en", "de"], ["en", "de"], 4)
    truth = build((["en", "de"], [only_en, only_de, both], 1.0, 0))
    everything = XX(12).compose(truth.available, seed=0)
    for step in range(20):
        batch = everything.batch(step)
        assert sorted(items(batch)) == [(0, edge) for edge in range(12)]
        assert same_language(batch).all()
        assert all(truth.exists(*row) for row in rows(batch))
    within = HybridWithinBatch(4).compose(truth.available, seed=0)
    for step in range(40):
        batch = within.batch(step)
        assert same_language(batch).sum() == 2
        assert all(truth.exists(*row) for row in rows(batch))


def test_short_batches_take_what_there_is(sampler):
    truth = build(full(LANGUAGES, 6))
    composer = sampler.compose(truth.available, seed=3, short=True)
    for step in range(20):
        assert sorted(items(composer.batch(step))) == [(0, edge) for edge in range(6)]


def test_short_leaves_full_batches_alone(sampler, truth):
    usual, short = (sampler.compose(truth.available, seed=3, short=flag) for flag in (False, True))
    assert [rows(usual.batch(step)) for step in range(5)] == [rows(short.batch(step)) for step in range(5)]


# Law 1: a function of seed and step.


def test_a_batch_depends_on_nothing_that_was_called_before(sampler, truth):
    """Nor on whether the composer was pickled, as for loader processes that are spawned."""
    in_order = sampler.compose(truth.available, seed=9)
    expected = [rows(in_order.batch(step)) for step in range(15)]
    shuffled = sampler.compose(truth.available, seed=9)
    for step in np.random.default_rng(0).permutation(np.tile(np.arange(15), 2)).tolist():
        assert rows(shuffled.batch(step)) == expected[step]
    assert rows(sampler.compose(truth.available, seed=9).batch(14)) == expected[14]
    assert rows(pickle.loads(pickle.dumps(in_order)).batch(7)) == expected[7]


def test_the_seed_matters(sampler, truth):
    composers = [sampler.compose(truth.available, seed=seed) for seed in range(4)]
    assert len({tuple(rows(composer.batch(step))) for composer in composers for step in range(4)}) == 16


@pytest.mark.parametrize("language_choice", ["uniform", "size", 3.0])
def test_a_long_draw_is_made_of_short_ones(truth, language_choice):
    """Also across the ends of the blocks that it is drawn in."""
    pairs = XY(SIZE, language_choice=language_choice).compose(truth.available, seed=1).crosslingual.pairs
    start, count = STREAM_BLOCK - 300, STREAM_BLOCK + 1000
    whole = pairs.draw(start, count)
    parts = [pairs.draw(start + offset, min(700, count - offset)) for offset in range(0, count, 700)]
    assert np.array_equal(whole.cell, np.concatenate([part.cell for part in parts]))
    assert np.array_equal(whole.edge, np.concatenate([part.edge for part in parts]))


# The kind of pairs.


def test_english_pairs_are_english(truth):
    composer = English(SIZE).compose(truth.available, seed=1)
    english = truth.available.languages.index("en")
    for step in range(20):
        batch = composer.batch(step)
        assert set(batch.query_language.tolist()) | set(batch.passage_language.tolist()) == {english}


def test_x_x_pairs_have_one_language_and_batches_many(truth):
    composer = XX(SIZE).compose(truth.available, seed=1)
    for step in range(20):
        batch = composer.batch(step)
        assert same_language(batch).all()
        assert len(set(batch.query_language.tolist())) > 1


def test_x_x_mono_batches_have_one_language_and_the_run_has_all(truth):
    composer = XXMono(SIZE).compose(build(full(LANGUAGES, 60)).available, seed=1)
    languages = []
    for step in range(20):
        batch = composer.batch(step)
        languages.append({*batch.query_language.tolist(), *batch.passage_language.tolist()})
    assert all(len(language) == 1 for language in languages)
    assert set().union(*languages) == {0, 1, 2, 3}


def test_x_y_pairs_have_two_languages_and_batches_many(truth):
    composer = XY(SIZE).compose(truth.available, seed=1)
    for step in range(20):
        batch = composer.batch(step)
        assert not same_language(batch).any()
        assert len(set(zip(batch.query_language.tolist(), batch.passage_language.tolist(), strict=True))) > 1


@pytest.mark.parametrize("ratio_mode", ["exact", "bernoulli"])
def test_hybrid_batches_are_monolingual_or_cross_lingual_as_a_whole(truth, ratio_mode):
    composer = Hybrid(SIZE, ratio_mode=ratio_mode).compose(truth.available, seed=1)
    kinds = set()
    for step in range(40):
        batch = composer.batch(step)
        monolingual = len({*batch.query_language.tolist(), *batch.passage_language.tolist()}) == 1
        assert monolingual or not same_language(batch).any()
        kinds.add(monolingual)
    assert kinds == {True, False}


# Law 2 and its relatives.

ALPHAS = [0.05, 0.25, 1 / 3, 0.5, 0.7, 0.999]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("seed", [0, 1])
def test_exact_counts_are_within_one_of_alpha_after_every_batch(alpha, seed):
    composer = Hybrid(2, alpha=alpha).compose(build(full(LANGUAGES, 30)).available, seed=seed)
    monolingual = 0
    for step in range(250):
        monolingual += bool(same_language(composer.batch(step)).all())
        assert abs(monolingual - alpha * (step + 1)) < 1


@pytest.mark.parametrize("alpha", ALPHAS)
def test_exact_counts_stay_within_one_over_a_million_steps(alpha):
    ratio = Exact(Schedule(constant(alpha)), 3, 2)
    steps = [*range(2000), *range(999_000, 1_000_000)]
    before = [ratio.before(step) for step in steps]
    assert all(abs(count - alpha * step) < 1 for count, step in zip(before, steps, strict=True))


@pytest.mark.parametrize("alpha", [0.1, 1 / 3, 0.5, 0.9])
def test_bernoulli_is_a_coin(alpha):
    before = np.array(
        [
            Bernoulli(Schedule(constant(alpha)), 3, 2).before(0),
            *map(Bernoulli(Schedule(constant(alpha)), 3, 2).before, range(1, 20_001)),
        ]
    )
    tosses = np.diff(before)
    assert set(tosses.tolist()) == {0, 1}
    assert binomtest(int(tosses.sum()), len(tosses), alpha).pvalue > 1e-4
    repeats = int((tosses[1:] == tosses[:-1]).sum())
    assert binomtest(repeats, len(tosses) - 1, alpha**2 + (1 - alpha) ** 2).pvalue > 1e-4


def test_bernoulli_counts_across_blocks_in_any_order():
    steps = [2 * BLOCK + 5, 3, BLOCK, BLOCK - 1, BLOCK + 1, 2 * BLOCK + 5]
    ratio = Bernoulli(Schedule(constant(0.4)), 1)
    assert [ratio.before(step) for step in steps] == [Bernoulli(Schedule(constant(0.4)), 1).before(step) for step in steps]
    first, second = ([ratio.before(start + step) - ratio.before(start) for step in range(100)] for start in (0, BLOCK))
    assert first != second


def test_bernoulli_hybrid_follows_its_coin(truth):
    alpha = 0.6
    composer = Hybrid(SIZE, alpha=alpha, ratio_mode="bernoulli").compose(truth.available, seed=2)
    kinds = [bool(same_language(composer.batch(step)).all()) for step in range(400)]
    assert binomtest(sum(kinds), 400, alpha).pvalue > 1e-4
    assert any(abs(sum(kinds[:step]) - alpha * step) > 1 for step in range(400))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_hybrid_within_batch_has_the_exact_share_of_pairs_after_every_batch(alpha):
    composer = HybridWithinBatch(7, alpha=alpha).compose(ragged(0).available, seed=4)
    monolingual = 0
    for step in range(100):
        batch = composer.batch(step)
        here = int(same_language(batch).sum())
        assert np.floor(alpha * 7) <= here <= np.ceil(alpha * 7)
        monolingual += here
        assert abs(monolingual - alpha * 7 * (step + 1)) < 1


# One set of streams.


@pytest.mark.parametrize("ratio_mode", ["exact", "bernoulli"])
@pytest.mark.parametrize(("alpha", "plain"), [(0.0, XY(SIZE)), (1.0, XXMono(SIZE))])
def test_hybrid_at_the_ends_is_x_y_and_x_x_mono(truth, ratio_mode, alpha, plain):
    hybrid = Hybrid(SIZE, alpha=alpha, ratio_mode=ratio_mode).compose(truth.available, seed=6)
    other = plain.compose(truth.available, seed=6)
    for step in range(30):
        assert rows(hybrid.batch(step)) == rows(other.batch(step))


@pytest.mark.parametrize(("alpha", "plain"), [(0.0, XY(SIZE)), (1.0, XX(SIZE))])
def test_hybrid_within_batch_at_the_ends_is_x_y_and_x_x(truth, alpha, plain):
    hybrid, other = (one.compose(truth.available, seed=6) for one in (HybridWithinBatch(SIZE, alpha=alpha), plain))
    for step in range(30):
        assert rows(hybrid.batch(step)) == rows(other.batch(step))


@pytest.mark.parametrize("ratio_mode", ["exact", "bernoulli"])
def test_hybrid_takes_the_batches_of_x_x_mono_and_x_y_in_their_order(truth, ratio_mode):
    """Also where items were replaced: 21 English items and batches of 20 repeat one in nearly every batch."""
    small = build(full(["en", "de"], SIZE + 1))
    for available in (truth.available, small.available):
        hybrid = Hybrid(SIZE, alpha=0.4, ratio_mode=ratio_mode).compose(available, seed=8)
        expected = {True: XXMono(SIZE).compose(available, seed=8), False: XY(SIZE).compose(available, seed=8)}
        number = {True: 0, False: 0}
        for step in range(60):
            batch = hybrid.batch(step)
            kind = bool(same_language(batch).all())
            assert rows(batch) == rows(expected[kind].batch(number[kind]))
            number[kind] += 1
        assert min(number.values()) > 10


# Coverage and shares.


def test_one_cell_shows_each_item_once_an_epoch():
    composer = English(25).compose(build(full(["en"], 200)).available, seed=2)
    for epoch in range(4):
        seen = [item for step in range(8) for item in items(composer.batch(8 * epoch + step))]
        assert sorted(seen) == [(0, edge) for edge in range(200)]


def test_monolingual_batches_show_each_item_once_an_epoch_in_every_language():
    composer = XXMono(25).compose(build(full(["en", "de", "th"], 100)).available, seed=2)
    seen = Counter(row for step in range(3 * 4 * 2) for row in rows(composer.batch(step)))
    assert set(seen.values()) == {2}
    assert len(seen) == 300


def test_two_sets_with_the_same_edge_numbers_show_each_item_once_an_epoch():
    composer = English(20).compose(build(full(["en"], 100), full(["en"], 100)).available, seed=2)
    assert len({item for step in range(10) for item in items(composer.batch(step))}) == 200


def test_items_are_spread_evenly_even_where_repeats_are_replaced():
    composer = XY(50).compose(build(full(LANGUAGES, 60)).available, seed=2)
    seen = Counter(item for step in range(300) for item in items(composer.batch(step)))
    assert len(seen) == 60
    assert max(abs(count - 250) for count in seen.values()) < 60


def test_uniform_monolingual_languages_differ_by_one_batch_at_most():
    uneven = build((LANGUAGES, [(LANGUAGES, LANGUAGES, 30), (["en"], ["en"], 500)], 1.0, 0))
    composer = XXMono(10).compose(uneven.available, seed=1)
    counts = Counter(dict.fromkeys(range(4), 0))
    for step in range(99):
        counts[int(composer.batch(step).query_language[0])] += 1
        assert max(counts.values()) - min(counts.values()) <= 1


def test_uniform_language_pairs_differ_by_one_pair_at_most():
    composer = XY(24).compose(build(full(LANGUAGES, 500)).available, seed=1)
    counts = Counter()
    for step in range(50):
        counts.update(row[2:] for row in rows(composer.batch(step)))
        assert len(counts) == 12
        assert max(counts.values()) - min(counts.values()) <= 1


def test_hybrid_within_batch_skips_nothing_of_either_stream():
    composer = HybridWithinBatch(15, alpha=0.4).compose(build(full(LANGUAGES, 500)).available, seed=1)
    counts = {True: Counter(), False: Counter()}
    for step in range(50):
        for _, _, query, passage in rows(composer.batch(step)):
            counts[query == passage][query, passage] += 1
        if step > 3:
            assert [len(part) for part in counts.values()] == [4, 12]
            assert all(max(part.values()) - min(part.values()) <= 1 for part in counts.values())


@pytest.mark.parametrize("sampler_class", [XX, XXMono])
@pytest.mark.parametrize(("how", "expected"), [("size", [1 / 10, 9 / 10]), (2.0, [1 / 4, 3 / 4]), ("uniform", [1 / 2, 1 / 2])])
def test_language_shares_follow_the_choice(sampler_class, how, expected):
    languages = ["de", "en"]
    truth = build((languages, [(["de"], ["de"], 100), (["en"], ["en"], 900)], 1.0, 0))
    composer = sampler_class(20, language_choice=how).compose(truth.available, seed=1)
    counts = np.zeros(2)
    for step in range(200):
        counts += np.bincount(composer.batch(step).query_language, minlength=2)
    assert np.abs(counts / counts.sum() - expected).max() < 0.002


@pytest.mark.parametrize("sampler_class", [XX, XXMono, XY])
def test_sets_are_drawn_by_their_weights_within_a_language_pair(sampler_class):
    truth = build(full(["de", "en"], 400, weight=1.0), full(["de", "en", "th"], 400, weight=3.0))
    composer = sampler_class(20).compose(truth.available, seed=1)
    counts = Counter()
    for step in range(240):
        counts.update((query, passage, index) for index, _, query, passage in rows(composer.batch(step)))
    thai = truth.available.languages.index("th")
    for left, right in {key[:2] for key in counts}:
        share = counts[left, right, 1] / (counts[left, right, 0] + counts[left, right, 1])
        assert share == pytest.approx(1.0 if thai in (left, right) else 0.75, abs=0.01)


# Errors.


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize("sampler_class", [Hybrid, HybridWithinBatch])
def test_alpha_outside_its_range_is_refused(sampler_class, alpha):
    with pytest.raises(InputError, match=rf"sampler\.alpha={alpha} is outside 0\.\.1"):
        sampler_class(4, alpha=alpha)


def test_an_unknown_ratio_mode_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"sampler\.ratio_mode='bernouli' is unknown; did you mean 'bernoulli'\?"):
        Hybrid(4, ratio_mode="bernouli")


def test_an_unknown_language_choice_is_refused_before_any_data(sampler):
    with pytest.raises(InputError, match=r"sampler\.language_choice='unifrom'.*uniform, size"):
        type(sampler)(**{**vars(sampler), "language_choice": "unifrom"})


def test_an_empty_batch_is_refused(sampler):
    with pytest.raises(InputError, match=r"sampler\.batch_size=0"):
        type(sampler)(**{**vars(sampler), "batch_size": 0})


@pytest.mark.parametrize("sampler", [XY(4), Hybrid(4), HybridWithinBatch(4), Hybrid(4, alpha=0.0)])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(
    "rows_of_set",
    [[(["en"], ["en"], 50)], [(["en"], ["en"], 50), (["de"], ["de"], 50)]],
    ids=["one language", "no item in two languages"],
)
def test_cross_lingual_pairs_need_items_in_two_languages(sampler, short, rows_of_set):
    truth = build((["de", "en"], rows_of_set, 1.0, 0))
    with pytest.raises(InputError, match=r"dataset\.languages=\[de,en\] gives no cross-lingual pairs"):
        sampler.compose(truth.available, seed=1, short=short)


@pytest.mark.parametrize("sampler", [XX(4), XXMono(4), Hybrid(4), HybridWithinBatch(4), HybridWithinBatch(4, alpha=1.0)])
def test_same_language_pairs_need_items_with_both_sides_in_one(sampler):
    truth = build((["de", "en"], [(["en"], ["de"], 50)], 1.0, 0))
    with pytest.raises(InputError, match=r"dataset\.languages=\[de,en\] gives no same-language pairs"):
        sampler.compose(truth.available, seed=1)


def test_the_unused_stream_is_not_asked_for():
    one_language = build(full(["de"], 50))
    assert len(Hybrid(4, alpha=1.0).compose(one_language.available, seed=1).batch(0)) == 4
    assert len(HybridWithinBatch(4, alpha=1.0).compose(one_language.available, seed=1).batch(0)) == 4


@pytest.mark.parametrize("languages", [["de", "th"], ["de", "en"]])
def test_english_needs_english_pairs(languages):
    truth = build((languages, [(["de"], languages, 50)], 1.0, 0))
    with pytest.raises(InputError, match=r"sampler=english needs pairs in 'en', not dataset\.languages="):
        English(4).compose(truth.available, seed=1)


def test_a_batch_larger_than_its_stream_is_refused(sampler):
    truth = build(full(LANGUAGES, SIZE - 1))
    with pytest.raises(InputError, match=rf"sampler\.batch_size={SIZE} is more than the {SIZE - 1} .* items in \["):
        sampler.compose(truth.available, seed=1)


def test_the_language_that_cannot_fill_a_batch_is_named():
    truth = build((["de", "en"], [(["de", "en"], ["de", "en"], 10), (["en"], ["en"], 50)], 1.0, 0))
    with pytest.raises(InputError, match=r"batch_size=20 is more than the 10 same-language items in \[de\]"):
        XXMono(20).compose(truth.available, seed=1)
