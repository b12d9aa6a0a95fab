"""The parts of mining against loops: what answers what, lists, margins, one order of merit, a second model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.data.parallel import SPLITS, PairsWriter, ParallelPairs
from hybrid_retrieval.mining import second
from hybrid_retrieval.mining.answers import Answers
from hybrid_retrieval.mining.candidates import Candidates, Hunt, Ranks, answers_in, first_of_each, merged
from hybrid_retrieval.mining.miners import EncoderMiner, Margin
from hybrid_retrieval.mining.second import EncoderJudge, Second, chosen

LANGUAGES = ("aa", "bb", "cc")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> ParallelPairs:
    """30 questions, 40 passages, a third of the texts missing, several answers; some texts are shared, also over sides."""
    random = np.random.default_rng(5)
    directory = tmp_path_factory.mktemp("set")
    writer = PairsWriter(directory, "set", LANGUAGES)
    for side, count in (("queries", 30), ("passages", 40)):
        for language in LANGUAGES:
            shared = random.integers(0, 60, count)
            said = [f"{language} shared {n}" if n < 6 else f"{side} {language} {i}" for i, n in enumerate(shared.tolist())]
            writer.write(side, language, ((i, f"{i}", said[i]) for i in range(count) if random.random() < 0.7))
    drawn = {(int(q), int(p)) for q, p in random.integers(0, (30, 36), (60, 2))}
    edges = np.array(sorted(drawn))
    splits = {split: edges[edges[:, 0] % 3 == index] for index, split in enumerate(SPLITS)}
    writer.finish(splits, {"provenance": {}})
    return ParallelPairs.open(directory)


@pytest.fixture(scope="module")
def miner(pairs: ParallelPairs) -> EncoderMiner:
    random = np.random.default_rng(2)
    of_queries, of_passages = (
        random.normal(size=(len(side), 4)).astype(np.float32) for side in (pairs.queries, pairs.passages)
    )
    ends = np.searchsorted(pairs.passages.languages, range(1, len(LANGUAGES)))
    return EncoderMiner(of_queries, np.split(of_passages, ends), "cpu")


def chains(table: object) -> list[set[int]]:
    """For each group those that a chain of shared texts joins it to, by going round until nothing changes."""
    said: dict[str, set[int]] = {}
    for group, text in zip(table.groups.tolist(), table.texts(), strict=True):  # type: ignore[attr-defined]
        said.setdefault(text, set()).add(group)
    joined = [{group} for group in range(len(table.rows))]  # type: ignore[attr-defined]
    for _ in range(len(joined)):
        for groups in said.values():
            every = set().union(*(joined[group] for group in groups))
            for group in every:
                joined[group] = joined[group] | every
    return joined


def test_answers_are_those_of_law_3_over_the_whole_set(pairs: ParallelPairs) -> None:
    queries, passages = chains(pairs.queries), chains(pairs.passages)
    judged = {tuple(edge[:2]) for edge in pairs.edges.tolist()}
    said = [[set(side.texts(rows[rows >= 0])) for rows in side.rows] for side in (pairs.queries, pairs.passages)]
    answers = Answers.of(pairs)
    found, direct = 0, 0
    for q in range(len(pairs.queries.rows)):
        for p in range(len(pairs.passages.rows)):
            every = [(one, other) for one in queries[q] for other in passages[p]]
            expected = any(pair in judged or said[0][pair[0]] & said[1][pair[1]] for pair in every)
            assert answers.answer(np.array([q]), np.array([p])).tolist() == [expected]
            found, direct = found + expected, direct + ((q, p) in judged)
    assert found > direct
    for split in SPLITS:
        used = {other: {int(p) for p in pairs.split_edges(other)[:, 1]} for other in SPLITS}
        elsewhere = set().union(*(passages[p] for other in SPLITS if other != split for p in used[other]))
        assert set(np.flatnonzero(answers.elsewhere(pairs, split)).tolist()) == elsewhere - used[split]


@pytest.mark.parametrize(
    "margin", [Margin(), Margin(max_score=0.5), Margin(absolute=0.3), Margin(relative=0.1), Margin(0.1, 0.2, 2.0)]
)
@pytest.mark.parametrize("ranks", [Ranks(1, 40), Ranks(3, 9)])
def test_a_list_is_the_window_of_the_ranking_without_what_may_be_an_answer(
    pairs: ParallelPairs, miner: EncoderMiner, margin: Margin, ranks: Ranks
) -> None:
    answers = Answers.of(pairs)
    elsewhere = answers.elsewhere(pairs, "train")
    hunt = Hunt(pairs, answers, elsewhere, ranks, margin)
    passages = np.concatenate(miner.passages)
    rows = np.flatnonzero(pairs.queries.languages != 1)[::2]
    mine = np.flatnonzero(pairs.passages.languages == 1)
    thrown: Counter[str] = Counter()
    found = hunt.list_of(miner, 2, rows, 1, own=False, thrown=thrown)
    expected, refused = [], 0
    for row in rows.tolist():
        group = int(pairs.queries.groups[row])
        scores = {int(p): float(passages[p] @ miner.queries[row]) for p in mine}
        known = [
            scores[p] for p in mine if (group, int(pairs.passages.groups[p])) in {tuple(e[:2]) for e in pairs.edges.tolist()}
        ]
        worst = min(known, default=None)
        for rank, p in enumerate(sorted(scores, key=lambda p: -scores[p])[: ranks.last], 1):
            other = int(pairs.passages.groups[p])
            if rank < ranks.first:
                continue
            bad = answers.answer(np.array([group]), np.array([other]))[0] or elsewhere[other]
            bad |= margin.max_score is not None and scores[p] > margin.max_score
            if margin.absolute is not None:
                bad |= worst is None or scores[p] > worst - margin.absolute
            if margin.relative is not None:
                bad |= worst is None or scores[p] > worst - abs(worst) * margin.relative
            refused += bool(bad)
            if not bad:
                expected.append((group, other, row, p, rank, (2 * 3 + int(pairs.queries.languages[row])) * 3 + 1))
    assert list(zip(*(getattr(found, name).tolist() for name in found.__dataclass_fields__), strict=True)) == expected
    assert sum(thrown.values()) == refused > 0
    assert expected


def drawn(seed: int, count: int = 400) -> Candidates:
    """Candidates of six queries in lists of ranks without gaps."""
    random = np.random.default_rng(seed)
    query, source = random.integers(0, 6, count), random.integers(0, 5, count)
    passage, rank = random.integers(0, 30, count), np.zeros(count, np.int64)
    for q, s in np.unique(np.stack([query, source], 1), axis=0).tolist():
        there = np.flatnonzero((query == q) & (source == s))
        rank[there] = np.arange(1, len(there) + 1)
    return Candidates(query, passage, query * 10, passage * 100 + source, rank, source)


@pytest.mark.parametrize("merge", ["reciprocal_rank", "round_robin"])
def test_lists_are_merged_by_the_formula(merge: str) -> None:
    every = drawn(3)
    found = merged(every, merge, 5)
    for query in range(6):
        mine = [i for i in range(len(every)) if every.query[i] == query]
        by_passage: dict[int, list[int]] = {}
        for i in mine:
            by_passage.setdefault(int(every.passage[i]), []).append(i)
        turn = {i: (int(every.source[i]) - query) % 5 for i in mine}

        def best(places: Sequence[int], turn: dict[int, int] = turn) -> int:
            return min((every.rank[place], turn[place], place) for place in places)[2]

        def merit(passage: int, known: dict[int, list[int]] = by_passage, turn: dict[int, int] = turn) -> tuple[float, ...]:
            first = best(known[passage], turn)
            fused = sum(1 / (60 + int(every.rank[i])) for i in known[passage])
            return -round(fused, 9) if merge == "reciprocal_rank" else 0.0, every.rank[first], turn[first], passage

        order = sorted(by_passage, key=merit)
        assert found.passage[found.query == query].tolist() == order
        assert found.found[found.query == query].tolist() == [int(every.found[best(by_passage[p])]) for p in order]
    assert len(merged(Candidates.join([]), merge, 5)) == 0


@pytest.mark.parametrize("merge", ["reciprocal_rank", "round_robin"])
def test_a_querys_order_does_not_hang_on_the_queries_beside_it(merge: str) -> None:
    query, passage, source = np.array([[4, 10, 0], [4, 11, 1], [4, 12, 2], [5, 13, 4]]).T
    every = Candidates(query, passage, query, passage, np.ones(4, np.int64), source)
    together, alone = (merged(every.take(rows), merge, 5) for rows in (np.arange(4), np.arange(3)))
    assert together.passage.tolist() == [*alone.passage.tolist(), 13]


class Judge:
    """Scores a passage by its number."""

    def scores(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        return (passages % 7 + queries % 3).astype(np.float32)


def test_the_second_model_refuses_and_the_next_ones_move_up(pairs: ParallelPairs) -> None:
    random = np.random.default_rng(4)
    asked = np.sort(random.integers(0, len(pairs.queries), 300))
    found = random.integers(0, len(pairs.passages), 300)
    query = pairs.queries.groups[asked].astype(np.int64)
    order = np.argsort(query, kind="stable")
    merit = Candidates(query, pairs.passages.groups[found].astype(np.int64), asked, found, asked, asked).take(order)
    second, thrown = Second(Judge(), Margin(relative=0.0)), Counter[str]()
    taken = chosen(pairs, merit, 2, second, thrown)

    def fine(i: int) -> bool:
        row, language = merit.asked[[i]], int(pairs.passages.languages[merit.found[i]])
        _, answers = answers_in(pairs, row, language)
        worst = min(((a % 7 + row[0] % 3) for a in answers.tolist()), default=None)
        return worst is None or merit.found[i] % 7 + row[0] % 3 <= worst

    expected, asked_of, left = [], 0, Counter[int]()
    for i in range(len(merit)):
        q = int(merit.query[i])
        if left[q] < 2:
            asked_of += not fine(i)
            if fine(i):
                left[q] += 1
                expected.append(i)
    assert np.flatnonzero(taken).tolist() == expected
    assert thrown["an answer to the second model"] == asked_of > 5
    assert chosen(pairs, merit, 2, None, thrown).tolist() == first_of_each(merit.query, np.ones(300, bool), 2).tolist()


def test_bm25_scores_single_pairs_as_it_scores_blocks(pairs: ParallelPairs, tmp_path: Path) -> None:
    from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
    from hybrid_retrieval.mining.miners import LexicalMiner

    del tmp_path
    lexical = LexicalMiner.of(BM25(), pairs, "")
    rows = np.flatnonzero(pairs.queries.languages == 1)
    for own in (True, False):
        scorer = lexical.scorer(rows, 1, own)
        count = int((pairs.passages.languages == 1).sum())
        block = scorer.against(slice(0, count))(0, len(rows)).numpy()
        at = np.stack(np.meshgrid(np.arange(len(rows)), np.arange(count), indexing="ij"), -1).reshape(-1, 2)
        single = scorer.pairs(at[:, 0], at[:, 1]).numpy().reshape(block.shape)
        np.testing.assert_allclose(single, np.where(np.isfinite(block), block, 0), rtol=1e-5)
        assert (single > 0).any()


def test_an_encoder_judges_pairs_a_part_at_a_time(miner: EncoderMiner, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = EncoderJudge.of(miner)
    random = np.random.default_rng(1)
    queries, passages = (random.integers(0, len(side), 100) for side in (judge.queries, judge.passages))
    whole = judge.scores(queries, passages)
    monkeypatch.setattr(second, "AT_ONCE", 7)
    assert np.array_equal(judge.scores(queries, passages), whole)
    every = np.concatenate(list(miner.passages))
    assert whole == pytest.approx((miner.queries[queries] * every[passages]).sum(1), abs=1e-5)
