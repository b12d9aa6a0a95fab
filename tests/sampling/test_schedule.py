"""Law 2 for every schedule, against shares written down again here; the adaptive one against a replay of its journal."""

import itertools
import json
import math
import pickle

import numpy as np
import pytest
from scipy.stats import binomtest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.hybrid import Hybrid, HybridWithinBatch
from hybrid_retrieval.sampling.ratio import (
    BLOCK,
    CHORDS,
    UNIT,
    Bernoulli,
    Curve,
    Exact,
    Schedule,
    ScheduleConfig,
    half_cosine,
    straight,
)
from hybrid_retrieval.sampling.sampler import XX, XY, XXMono

from .brute_force import build, full, ragged

LANGUAGES = ["en", "de", "th", "zh"]
STEPS = 200
ALPHA = 0.8


def line(step, first, end, steps):
    return end if step >= steps - 1 else first + (end - first) * step / (steps - 1)


def cosine(step, first, end, steps):
    return end if step >= steps - 1 else end + (first - end) * (1 + math.cos(math.pi * step / (steps - 1))) / 2


SCHEDULES = {
    "constant": ({}, lambda step: ALPHA),
    "linear": ({"kind": "linear", "end": 0.1}, lambda step: line(step, ALPHA, 0.1, STEPS)),
    "linear to one, early": ({"kind": "linear", "end": 1, "until": 0.3}, lambda step: line(step, ALPHA, 1, 60)),
    "cosine": ({"kind": "cosine", "end": 0.25}, lambda step: cosine(step, ALPHA, 0.25, STEPS)),
    "cosine to none, early": ({"kind": "cosine", "end": 0.0, "until": 0.5}, lambda step: cosine(step, ALPHA, 0, 100)),
    "step": (
        {"kind": "step", "at": [0.25, 0.6], "shares": [0.1, 1.0]},
        lambda step: ALPHA if step < 50 else 0.1 if step < 120 else 1.0,
    ),
}


@pytest.fixture(params=SCHEDULES.values(), ids=SCHEDULES)
def scheduled(request):
    return request.param


def same_language(batch):
    return batch.query_language == batch.passage_language


def rows(batch):
    return np.stack([batch.set_index, batch.edge, batch.query_language, batch.passage_language]).T.tolist()


# Law 2.


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_counts_are_within_one_of_the_sum_of_shares_after_every_batch(scheduled, seed):
    node, share = scheduled
    composer = Hybrid(2, alpha=ALPHA, schedule=node).compose(build(full(LANGUAGES, 30)).available, seed=seed, steps=STEPS)
    monolingual, expected = 0, 0.0
    for step in range(STEPS + 30):
        monolingual += bool(same_language(composer.batch(step)).all())
        expected += share(step)
        assert abs(monolingual - expected) < 1
        assert composer.alpha(step) == pytest.approx(share(step), abs=1e-9)


def test_pairs_within_batches_are_within_one_of_the_sum_of_shares_after_every_batch(scheduled):
    node, share = scheduled
    composer = HybridWithinBatch(7, alpha=ALPHA, schedule=node).compose(ragged(0).available, seed=4, steps=STEPS)
    monolingual, expected = 0, 0.0
    for step in range(STEPS + 30):
        here = int(same_language(composer.batch(step)).sum())
        assert math.floor(7 * share(step) - 1e-9) <= here <= math.ceil(7 * share(step) + 1e-9)
        monolingual += here
        expected += 7 * share(step)
        assert abs(monolingual - expected) < 1


def test_the_coin_is_tossed_with_the_scheduled_share(scheduled):
    """Over many runs: at three stretches of the run, and in all."""
    node, share = scheduled
    counts = np.zeros(STEPS)
    runs = 150
    for seed in range(runs):
        ratio = Bernoulli(ScheduleConfig(**node).planned(ALPHA, STEPS), seed)
        counts += np.diff([ratio.before(step) for step in range(STEPS + 1)])
    for part in (slice(0, 40), slice(80, 120), slice(160, 200), slice(0, 200)):
        shares = np.array([share(step) for step in range(STEPS)])[part]
        spread = math.sqrt(runs * (shares * (1 - shares)).sum())
        assert abs(counts[part].sum() - runs * shares.sum()) <= 4 * spread + 1e-6
    alike = [(counts[step] in (0, runs)) for step in range(STEPS) if share(step) in (0, 1)]
    assert all(alike)


def test_bernoulli_batches_follow_the_coin(scheduled):
    node, _ = scheduled
    composer = Hybrid(2, alpha=ALPHA, ratio_mode="bernoulli", schedule=node).compose(ragged(0).available, seed=1, steps=STEPS)
    kinds = [bool(same_language(composer.batch(step)).all()) for step in range(60)]
    assert np.cumsum(kinds).tolist() == [composer.ratio.before(step + 1) for step in range(60)]


@pytest.mark.parametrize("make", [straight, half_cosine])
@pytest.mark.parametrize("ends", [(0.9, 0.1), (0.0, 1.0), (1.0, 0.0), (1 / 3, 1 / 3)])
@pytest.mark.parametrize("steps", [1, 2, 3, CHORDS, CHORDS + 1, CHORDS + 2, 3000])
def test_sums_are_the_sums_of_the_shares_and_grow_by_no_more_than_one(make, ends, steps):
    curve = make(*ends, steps)
    formula = {straight: line, half_cosine: cosine}[make]
    shares = curve.values(0, steps + 10)
    assert np.abs(shares - [formula(step, *ends, steps) for step in range(steps + 10)]).max() < 1e-6
    sums = [curve.sum(step) for step in range(steps + 11)]
    assert all(0 <= after - before <= UNIT for before, after in itertools.pairwise(sums))
    assert np.abs(np.array(sums[1:], dtype=object) / UNIT - np.cumsum(shares)).max() < 1e-9 * steps
    for start in range(0, steps + 5, max(1, steps // 20)):
        assert np.allclose(curve.values(start, start + 5), shares[start : start + 5], rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [straight, half_cosine])
def test_a_million_steps_stay_within_one(make):
    steps = 1_000_000
    places = np.arange(steps)
    exact = {
        straight: 0.9 - 0.8 * places / (steps - 1),
        half_cosine: 0.1 + 0.4 * (1 + np.cos(np.pi * places / (steps - 1))),
    }[make]
    sums = np.concatenate([[0], np.cumsum(exact)])
    ratio = Exact(Schedule(make(0.9, 0.1, steps)), 5)
    for step in [*range(0, steps, 997), *range(steps - 50, steps + 1)]:
        assert abs(ratio.before(step) - sums[step]) < 1.2
        assert abs(ratio.before(step) - ratio.schedule.curve.sum(step) / UNIT) < 1


def test_a_step_of_a_schedule_that_rounds_to_nothing_is_passed_over():
    curve = ScheduleConfig(kind="step", at=[0.5, 0.52, 0.9], shares=[0.2, 0.4, 0.6]).planned(1.0, 10).curve
    assert curve.values(0, 12).tolist() == pytest.approx([1.0] * 5 + [0.4] * 4 + [0.6] * 3)
    assert curve.sum(12) / UNIT == pytest.approx(5 + 1.6 + 1.8)


def test_bernoulli_at_a_late_step_equals_running_there():
    schedule = Schedule(half_cosine(0.9, 0.1, 3 * BLOCK))
    through = Bernoulli(schedule, 3)
    steps = sorted({*range(0, 3 * BLOCK, 511), BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK})
    expected = [through.before(step) for step in steps]
    rng = np.random.default_rng(0)
    for index in rng.permutation(len(steps))[:30].tolist():
        assert Bernoulli(schedule, 3).before(steps[index]) == expected[index]
    total = expected[-1] - schedule.curve.sum(steps[-1]) / UNIT
    assert abs(total) < 4 * math.sqrt(0.25 * steps[-1])


# Law 1.


@pytest.mark.parametrize("mode", ["exact", "bernoulli", "within"])
def test_a_resumed_run_equals_one_that_ran_through(scheduled, mode):
    node, _ = scheduled
    sampler = (
        HybridWithinBatch(6, alpha=ALPHA, schedule=node)
        if mode == "within"
        else Hybrid(6, alpha=ALPHA, ratio_mode=mode, schedule=node)
    )
    available = ragged(1).available
    through = sampler.compose(available, seed=7, steps=STEPS)
    batches = [rows(through.batch(step)) for step in range(STEPS)]
    for step in (0, 49, 51, STEPS - 1):
        assert rows(sampler.compose(available, seed=7, steps=STEPS).batch(step)) == batches[step]
        assert rows(pickle.loads(pickle.dumps(through)).batch(step)) == batches[step]


def test_either_stream_goes_on_where_it_was_left(scheduled):
    node, _ = scheduled
    available = ragged(2).available
    hybrid = Hybrid(6, alpha=ALPHA, schedule=node).compose(available, seed=7, steps=STEPS)
    streams = {True: XXMono(6).compose(available, seed=7), False: XY(6).compose(available, seed=7)}
    number = {True: 0, False: 0}
    for step in range(STEPS):
        batch = hybrid.batch(step)
        kind = bool(same_language(batch).all())
        assert rows(batch) == rows(streams[kind].batch(number[kind]))
        number[kind] += 1


def test_without_steps_the_share_stays_as_it_starts(scheduled):
    """As in validation, whose batches are to be the same all along."""
    node, _ = scheduled
    available = ragged(1).available
    for sampler in (Hybrid, HybridWithinBatch):
        moved, still = (sampler(6, alpha=ALPHA, schedule=one).compose(available, seed=2) for one in (node, {}))
        assert [rows(moved.batch(step)) for step in range(20)] == [rows(still.batch(step)) for step in range(20)]


@pytest.mark.parametrize(("alpha", "plains"), [(1.0, (XXMono(6), XX(6))), (0.0, (XY(6), XY(6)))])
def test_a_schedule_that_stays_at_an_end_asks_for_one_stream_only(alpha, plains):
    languages = ["de"] if alpha else ["de", "en"]
    available = build(full(languages, 50)).available
    for sampler, plain in zip((Hybrid, HybridWithinBatch), plains, strict=True):
        for node in ({"kind": "linear", "end": alpha}, {"kind": "step", "at": [0.5], "shares": [alpha]}):
            composer = sampler(6, alpha=alpha, schedule=node).compose(available, seed=1, steps=10)
            other = plain.compose(available, seed=1)
            assert [rows(composer.batch(step)) for step in range(10)] == [rows(other.batch(step)) for step in range(10)]
            assert composer.alpha(3) == alpha


# The adaptive schedule.

ADAPTIVE = {"kind": "adaptive", "minimum": 0.3, "maximum": 0.7, "change": 0.1, "margin": 0.02, "delay": 8}
SAMPLERS = {
    "exact": Hybrid(6, schedule=ADAPTIVE),
    "bernoulli": Hybrid(6, ratio_mode="bernoulli", schedule=ADAPTIVE),
    "within": HybridWithinBatch(6, schedule=ADAPTIVE),
}
VALIDATIONS = [
    (20, {"monolingual": 0.20, "crosslingual": 0.10}),
    (40, {"monolingual": 0.22, "crosslingual": 0.15}),
    (60, {"monolingual": 0.24, "crosslingual": 0.20}),
    (80, {"monolingual": 0.25, "crosslingual": 0.26}),
    (100, {"monolingual": 0.40, "crosslingual": 0.20}),
    (120, {"monolingual": 0.41, "crosslingual": float("nan")}),
    (140, {"monolingual": 0.41, "crosslingual": 0.10}),
]


@pytest.fixture(params=SAMPLERS.values(), ids=SAMPLERS)
def adaptive(request):
    return request.param


def follow(composer, stop=180, validations=VALIDATIONS, start=0):
    """Batches start .. stop - 1 as training draws them: validation observes after its step."""
    drawn, measured = [], dict(validations)
    for step in range(start, stop):
        if step in measured:
            composer.observe(step, measured[step])
        drawn.append(rows(composer.batch(step)))
    return drawn


def test_the_stream_that_gains_less_gets_more():
    composer = Hybrid(6, schedule=ADAPTIVE).compose(ragged(0).available, seed=1, steps=500)
    shares = [composer.observe(*validation)["alpha"] for validation in VALIDATIONS]
    # No best before; monolingual lags twice, then at the bound; then cross-lingual forgets; a gap; and again.
    assert shares == pytest.approx([0.5, 0.6, 0.7, 0.7, 0.6, 0.6, 0.5])
    assert [decision["step"] for decision in composer.schedule.journal] == [step + 8 for step, _ in VALIDATIONS]
    assert composer.alpha(47) == pytest.approx(0.5)
    assert composer.alpha(48) == pytest.approx(0.6)
    assert composer.alpha(10_000) == pytest.approx(0.5)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_gains_within_the_margin_change_nothing(step):
    composer = Hybrid(6, schedule=ADAPTIVE).compose(ragged(0).available, seed=1, steps=500)
    composer.observe(0, {"monolingual": 0.5, "crosslingual": 0.2})
    assert composer.observe(step, {"monolingual": 0.5, "crosslingual": 0.2 * (1 + 0.019)})["alpha"] == 0.5
    assert composer.observe(step + 1, {"monolingual": 0.5, "crosslingual": 0.2 * 1.019 * 1.021})["alpha"] == 0.6


def test_the_gain_is_over_the_best_before_and_not_the_last():
    composer = Hybrid(6, schedule=ADAPTIVE).compose(ragged(0).available, seed=1, steps=500)
    composer.observe(10, {"monolingual": 0.5, "crosslingual": 0.5})
    composer.observe(20, {"monolingual": 0.5, "crosslingual": 0.3})
    assert composer.observe(30, {"monolingual": 0.5, "crosslingual": 0.4})["alpha"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "measures", [{}, {"monolingual": 0.1}, {"monolingual": 0.1, "crosslingual": float("inf")}, {"crosslingual": 0.0}]
)
def test_a_missing_measure_decides_nothing_and_is_no_best(measures):
    composer = Hybrid(6, schedule=ADAPTIVE).compose(ragged(0).available, seed=1, steps=500)
    composer.observe(10, {"monolingual": 0.5, "crosslingual": 0.5})
    assert composer.observe(20, measures)["alpha"] == 0.5
    assert composer.observe(30, {"monolingual": 0.5, "crosslingual": 0.6})["alpha"] == 0.6


def test_batches_are_a_function_of_seed_step_and_journal(adaptive):
    available = ragged(1).available
    composer = adaptive.compose(available, seed=5, steps=500)
    drawn = follow(composer)
    for journal in (composer.schedule.journal, json.loads(json.dumps(composer.schedule.journal))):
        again = adaptive.compose(available, seed=5, steps=500)
        again.schedule.restore(journal)
        for step in np.random.default_rng(0).permutation(180)[:90].tolist():
            assert rows(again.batch(step)) == drawn[step]
        assert again.schedule.journal == composer.schedule.journal
    assert drawn != [rows(adaptive.compose(available, seed=5, steps=500).batch(step)) for step in range(180)]


def test_a_decision_changes_no_step_before_its_own(adaptive):
    """Also where batches were drawn ahead of the validation, by as many as the delay allows."""
    available = ragged(1).available
    composer = adaptive.compose(available, seed=5, steps=500)
    ahead = ADAPTIVE["delay"]
    drawn, measured = [], dict(VALIDATIONS)
    for step in range(180 + ahead):
        if step - ahead in measured:
            composer.observe(step - ahead, measured[step - ahead])
        drawn.append(rows(composer.batch(step)))
    assert drawn[:180] == follow(adaptive.compose(available, seed=5, steps=500))


@pytest.mark.parametrize("killed", [1, 20, 28, 61, 139])
def test_a_killed_run_goes_on_and_decides_as_an_unkilled_one(adaptive, killed):
    available = ragged(1).available
    whole = adaptive.compose(available, seed=5, steps=500)
    drawn = follow(whole)
    first = adaptive.compose(available, seed=5, steps=500)
    follow(first, stop=killed)
    second = adaptive.compose(available, seed=5, steps=500)
    second.schedule.restore(first.schedule.journal)
    assert follow(second, start=killed) == drawn[killed:]
    assert second.schedule.journal == whole.schedule.journal


def test_a_run_that_goes_back_forgets_what_it_decided_later(adaptive):
    """A checkpoint may be older than the last validation before the kill."""
    composer = adaptive.compose(ragged(1).available, seed=5, steps=500)
    follow(composer)
    journal = composer.schedule.journal
    composer.observe(*VALIDATIONS[3])
    assert composer.schedule.journal == journal[:4]
    for validation in VALIDATIONS[4:]:
        composer.observe(*validation)
    assert composer.schedule.journal == journal


def test_adaptive_counts_are_within_one_of_the_sum_of_the_journals_shares():
    for seed in range(3):
        composer = Hybrid(6, schedule=ADAPTIVE).compose(ragged(1).available, seed=seed, steps=500)
        monolingual = [all(row[2] == row[3] for row in batch) for batch in follow(composer, 400)]
        shares = np.full(400, 0.5)
        for decision in composer.schedule.journal:
            shares[decision["step"] :] = decision["alpha"]
        assert (np.abs(np.cumsum(monolingual) - np.cumsum(shares)) < 1).all()


def test_the_adaptive_coin_has_the_journals_shares():
    heads, shares = 0, np.full(400, 0.5)
    for seed in range(20):
        composer = Hybrid(6, ratio_mode="bernoulli", schedule=ADAPTIVE).compose(ragged(1).available, seed=seed, steps=500)
        for validation in VALIDATIONS[:3]:
            composer.batch(validation[0])
            composer.observe(*validation)
        heads += composer.ratio.before(400) - composer.ratio.before(68)
        shares[68:] = 0.7
    assert binomtest(heads, 20 * 332, 0.7).pvalue > 1e-4


def test_a_journal_is_plain_and_ones_own():
    composer = Hybrid(6, schedule=ADAPTIVE).compose(ragged(1).available, seed=1, steps=500)
    composer.observe(*VALIDATIONS[0])
    journal = composer.schedule.journal
    assert journal == [{"step": 28, "alpha": 0.5, "observed": 20, "monolingual": 0.2, "crosslingual": 0.1}]
    assert {type(value) for value in journal[0].values()} <= {int, float, type(None)}
    journal[0]["alpha"] = 0.0
    assert composer.schedule.journal[0]["alpha"] == 0.5


@pytest.mark.parametrize("sampler", [XX(6), XXMono(6), XY(6), Hybrid(6), HybridWithinBatch(6)])
def test_other_schedules_observe_in_silence_and_have_an_empty_journal(sampler):
    composer = sampler.compose(ragged(1).available, seed=1, steps=500)
    assert composer.observe(*VALIDATIONS[0]) is None
    assert composer.schedule.journal == []
    composer.schedule.restore([])
    with pytest.raises(ValueError, match="not adaptive"):
        composer.schedule.restore([{"step": 28, "alpha": 0.5, "observed": 20, "monolingual": 0.2, "crosslingual": 0.1}])


# Errors.


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"kind": "cosin"}, r"sampler\.schedule\.kind='cosin' is unknown; did you mean 'cosine'\?"),
        ({"kind": "linear", "ned": 0.1}, r"unknown config key sampler\.schedule\.ned.*'end'"),
        ({"kind": "linear", "end": "low"}, r"sampler\.schedule\.end='low' has the wrong type"),
        ({"kind": "linear"}, r"sampler\.schedule\.end=None must be given for sampler\.schedule\.kind=linear"),
        ({"end": 0.1}, r"sampler\.schedule\.end=0\.1 is for .*kind=linear or cosine, not constant"),
        ({"kind": "cosine", "end": 0.1, "at": [0.5]}, r"sampler\.schedule\.at=\[0\.5\] is for kind=step, not cosine"),
        ({"kind": "cosine", "end": 1.1}, r"sampler\.schedule\.end=1\.1 is outside 0\.\.1"),
        ({"kind": "linear", "end": 0.1, "until": 0}, r"sampler\.schedule\.until=0 must be above 0"),
        ({"kind": "linear", "end": 0.1, "until": 1.5}, r"sampler\.schedule\.until=1\.5 is outside 0\.\.1"),
        ({"kind": "step", "at": [0.5]}, r"sampler\.schedule\.shares=\[\] must be given"),
        ({"kind": "step", "at": [0.5], "shares": [0.1, 0.2]}, r"sampler\.schedule\.shares=.* one value for each of at"),
        ({"kind": "step", "at": [0.5, 0.4], "shares": [0.1, 0.2]}, r"sampler\.schedule\.at=\[0\.5, 0\.4\] must be incr"),
        ({"kind": "step", "at": [1.0], "shares": [0.1]}, r"sampler\.schedule\.at=\[1\.0\] must be increasing parts"),
        ({"kind": "step", "at": [0.5], "shares": [2]}, r"sampler\.schedule\.shares=2 is outside 0\.\.1"),
        ({"kind": "adaptive", "delay": 1}, r"sampler\.schedule\.delay=1 must be 2 or more"),
        ({"kind": "adaptive", "margin": -0.1}, r"sampler\.schedule\.margin=-0\.1 must be 0 or more"),
        ({"kind": "adaptive", "maximum": 0.4}, r"sampler\.alpha=0\.5 is outside sampler\.schedule\.minimum=0\.1 \.\. max"),
    ],
)
@pytest.mark.parametrize("sampler", [Hybrid, HybridWithinBatch])
def test_a_schedule_that_cannot_be_is_refused_by_its_key(sampler, node, message):
    with pytest.raises(InputError, match=message):
        sampler(4, schedule=node)


def test_pieces_of_a_curve_keep_their_values_or_lead_to_the_next():
    assert Curve([0, 2, 4], [0.1, 0.5, 0.3]).values(0, 6).tolist() == pytest.approx([0.1, 0.1, 0.5, 0.5, 0.3, 0.3])
    joined = Curve([0, 2, 4], [0.1, 0.5, 0.3], joined=True)
    assert joined.values(0, 6).tolist() == pytest.approx([0.1, 0.3, 0.5, 0.4, 0.3, 0.3])
