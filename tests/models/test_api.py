"""An endpoint with faults, on the loopback interface: what is asked, tried again and kept, what it may cost, what is said."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from tests.endpoint_server import KEY, SOON, Dripped, EndpointServer, answer_to, unit, vector

pytest.importorskip("openai")
from hybrid_retrieval.models.api import ApiEncoder, TextVectors


def late(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    time.sleep(0.2)
    return 200, {}, json.dumps(answer_to(body))


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    made = EndpointServer()
    yield made
    made.close()


Make = Callable[..., ApiEncoder]


@pytest.fixture
def make(server: EndpointServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SOME_KEY", KEY)

    def build(**values: Any) -> ApiEncoder:
        chosen = {"name": "some-model", "base_url": server.url, "key_variable": "SOME_KEY", "concurrency": 1, **values}
        return ApiEncoder(PathsConfig(cache=str(tmp_path / "cache")), **chosen)

    return build


def refused(encoder: ApiEncoder, texts: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        encoder.encode(texts or ["a"], "query", "some queries")
    message = str(caught.value)
    assert "\n" not in message
    assert KEY not in message
    assert KEY not in repr(caught.value.__cause__)
    return message


def test_vectors_are_the_endpoints_at_unit_length_and_in_the_order_of_the_texts(make: Make, server: EndpointServer) -> None:
    texts = ["b", "a", "ü 字", "b", "c d"]
    server.faults = [lambda body: (200, {}, json.dumps({**answer_to(body), "data": answer_to(body)["data"][::-1]}))]
    found = make(batch_size=2, query_prefix="query: ").encode(texts, "query")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [unit(f"query: {text}") for text in texts], rtol=1e-5, atol=1e-6)
    assert sorted(server.texts) == sorted(f"query: {text}" for text in {*texts})
    assert [len(body["input"]) for body in server.bodies] == [2, 2]
    assert server.bodies[0]["path"] == "/v1/embeddings"
    assert server.bodies[0]["model"] == "some-model"
    assert "dimensions" not in server.bodies[0]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_without_normalisation_and_with_dimensions(make: Make, server: EndpointServer) -> None:
    found = make(normalize=False, dimensions=3).encode(["a", "b"], "passage")
    np.testing.assert_allclose(found, [vector("a", 3), vector("b", 3)], rtol=1e-6)
    assert server.bodies[0]["dimensions"] == 3
    assert make().encode([], "query").shape[0] == 0


def test_a_request_is_no_line_in_the_log(make: Make, server: EndpointServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make(batch_size=1).encode(list("abc"), "query", "some queries")
    assert [record.getMessage() for record in caplog.records] == [
        "some queries: asked for 3 texts; so far 3 tokens, cost 0 at most"
    ]


def test_batches_are_limited_by_number_and_by_characters(make: Make, server: EndpointServer) -> None:
    texts = [letter * 10 for letter in "abcdefg"] + ["x" * 50]
    make(batch_size=3, batch_characters=20).encode(texts, "passage")
    assert [len(body["input"]) for body in server.bodies] == [2, 2, 2, 1, 1]


def test_requests_go_together_but_no_more_than_allowed(make: Make, server: EndpointServer) -> None:
    server.delay = 0.05
    texts = [f"text {n}" for n in range(12)]
    found = make(batch_size=1, concurrency=3).encode(texts, "passage")
    np.testing.assert_allclose(found, [unit(text) for text in texts], rtol=1e-5, atol=1e-6)
    assert server.most_under_way == 3


@pytest.mark.parametrize("fault", [(500, SOON, "oops"), (503, SOON, ""), (429, SOON, "slow down"), "drop"])
def test_what_may_pass_is_tried_again(make: Make, server: EndpointServer, fault: Any) -> None:
    server.faults = [fault]
    np.testing.assert_allclose(make(retries=1).encode(["a", "b"], "query"), [unit("a"), unit("b")], rtol=1e-5, atol=1e-6)
    assert len(server.bodies) == 2
    server.faults = [fault] * 2
    message = refused(make(retries=1), ["c"])
    assert f"{server.url}/embeddings failed: " in message
    assert len(server.bodies) == 4


BROKEN = [
    lambda body: "<html>",
    lambda body: '{"data": 3}',
    lambda body: '{"data": []}',
    lambda body: json.dumps({"data": answer_to(body)["data"][:1] * 2}),
    lambda body: json.dumps({"data": [{"index": n, "embedding": [None, "x"]} for n in range(2)]}),
    lambda body: '{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [1.0]}]}',
    lambda body: '{"data": [{"index": 0, "embedding": [1.0, 2.0]}, {"index": 1, "embedding": [1.0]}]}',
    lambda body: '{"data": [{"index": 0, "embedding": [0.0, 0.0]}, {"index": 1, "embedding": [1.0, 2.0]}]}',
    lambda body: '{"data": [{"index": 0, "embedding": [1e300]}, {"index": 1, "embedding": [1.0]}]}',
    lambda body: '{"data": [{"index": 0, "embedding": [1e30, 1e30]}, {"index": 1, "embedding": [1.0, 2.0]}]}',
    lambda body: '{"data": [{"index": 0, "embedding": ["1.0"]}, {"index": 1, "embedding": [true]}]}',
    lambda body: '{"data": [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]}',
    lambda body: json.dumps({"data": answer_to(body)["data"] + answer_to(body)["data"][:1]}),
    lambda body: '{"data": [{"index": 0, "embedding": [1%s]}, {"index": 1, "embedding": [1]}]}' % ("0" * 400),
    lambda body: '{"data": [{"index": 0, "embedding": [1%s]}]}' % ("0" * 5000),
    lambda body: '{"data": %s' % ("[" * 100_000),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_an_answer_that_holds_no_embeddings_is_said_in_one_line_and_not_kept(
    make: Make, server: EndpointServer, number: int, kind: str
) -> None:
    server.faults = [lambda body: (200, {"Content-Type": kind}, BROKEN[number](body))]
    assert server.url in refused(make(), ["a", "b"])
    np.testing.assert_allclose(make().encode(["a", "b"], "query"), [unit("a"), unit("b")], rtol=1e-5, atol=1e-6)


DRIPPED = [
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", id="endless 100 Continue"),
    pytest.param(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", id="headers"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" ", id="body"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x", id="a chunk's extension"),
    pytest.param(b"HTTP/1.1 500 No\r\nContent-Length: 9999\r\n\r\n", b" ", id="body of an error"),
]


@pytest.mark.parametrize(("head", "drop"), DRIPPED)
def test_the_timeout_is_of_the_whole_answer(make: Make, server: EndpointServer, head: bytes, drop: bytes) -> None:
    server.faults = [Dripped(head, drop)] * 2
    start = time.monotonic()
    assert "timed out" in refused(make(timeout=0.3, retries=1))
    assert time.monotonic() - start < 6
    assert len(server.bodies) == 2


def test_a_timeout_is_tried_again(make: Make, server: EndpointServer) -> None:
    server.delay = 0.3
    assert "timed out" in refused(make(timeout=0.1, retries=1))
    assert len(server.bodies) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_asks_for_too_long_a_pause_is_not_waited_for(make: Make, server: EndpointServer, status: int) -> None:
    server.faults = [(status, {"Retry-After": "86400"}, json.dumps({"error": {"message": "come back tomorrow"}}))]
    assert "come back tomorrow" in refused(make())
    assert len(server.bodies) == 1


def test_nobody_waits_for_a_turn_after_a_failure(make: Make, server: EndpointServer) -> None:
    """The second request would go after a minute."""
    server.faults = [lambda body: (400, late({**body})[1], "no")]
    start = time.monotonic()
    assert "400" in refused(make(batch_size=1, concurrency=2, requests_per_minute=1), ["a", "b", "c"])
    assert time.monotonic() - start < 5
    assert len(server.bodies) == 1


def test_a_refused_key_is_one_clear_line_without_the_key_and_is_not_tried_again(
    make: Make, server: EndpointServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [(401, {}, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}))]
    with caplog.at_level(logging.DEBUG):
        message = refused(make())
    assert "refuses model.key_variable=SOME_KEY (401)" in message
    assert len(server.bodies) == 1
    assert KEY not in caplog.text


@pytest.mark.parametrize("between", ["\n", "\r\nX-Other: ", " ", "é", "\x1b[2J"])
def test_a_key_that_no_header_can_hold_is_refused_without_it(
    make: Make, server: EndpointServer, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    encoder = make()
    monkeypatch.setenv("SOME_KEY", f"{KEY}{between}{KEY}")
    assert "SOME_KEY: that environment variable holds" in refused(encoder)
    assert not server.bodies


def test_an_absent_key_is_named_and_nothing_is_sent(
    make: Make, server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY")
    assert "SOME_KEY: that environment variable is not set" in refused(make())
    assert not server.bodies
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    make(key_variable=None).encode(["a"], "query")
    assert "authorization" not in server.headers[0]


def test_the_key_is_kept_nowhere(make: Make, server: EndpointServer, tmp_path: Path) -> None:
    encoder = make()
    encoder.encode(["a"], "query")
    assert KEY not in repr(encoder) + repr(vars(encoder)) + encoder.fingerprint("query")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_a_too_long_input_is_the_endpoints_own_words_and_what_to_do(make: Make, server: EndpointServer) -> None:
    server.faults = [(400, {}, json.dumps({"error": {"message": f"maximum context length is 8192 tokens {KEY}"}}))]
    message = refused(make())
    assert "400" in message
    assert "8192 tokens ***" in message
    assert "model.max_characters" in message
    assert len(server.bodies) == 1


def test_a_redirection_is_not_followed(make: Make, server: EndpointServer) -> None:
    """It would take the key somewhere else."""
    server.faults = [(307, {"Location": f"{server.url}/other"}, "")]
    assert server.url in refused(make())
    assert len(server.bodies) == 1


def test_long_texts_are_cut_and_counted(make: Make, server: EndpointServer, caplog: pytest.LogCaptureFixture) -> None:
    encoder = make(max_characters=5, passage_prefix="p ")
    with caplog.at_level(logging.INFO):
        encoder.encode(["abcdefgh", "abc"], "passage", "some corpus")
    assert sorted(server.texts) == ["p abc"]
    assert "some corpus: 1 of 2 texts are cut to model.max_characters=5" in caplog.text
    encoder.strict = True
    with pytest.raises(InputError, match=r"strict=true: some corpus: 1 of 2"):
        encoder.encode(["abcdefgh", "abc"], "passage", "some corpus")


def test_wrong_dimensions_are_refused_and_not_kept(make: Make, server: EndpointServer) -> None:
    server.faults = [lambda body: (200, {}, json.dumps(answer_to({**body, "dimensions": 4})))]
    assert "model.dimensions=3" in refused(make(dimensions=3))
    encoder = make()
    encoder.encode(["a"], "query")
    server.faults = [lambda body: (200, {}, json.dumps(answer_to({**body, "dimensions": 4})))]
    message = refused(encoder, ["a", "b"])
    assert "of 4 dimensions; those in " in message
    assert ".sqlite have 6" in message
    np.testing.assert_allclose(encoder.encode(["a", "b"], "query"), [unit("a"), unit("b")], rtol=1e-5, atol=1e-6)


def test_nothing_is_paid_for_twice_even_after_a_failure(make: Make, server: EndpointServer) -> None:
    texts = [f"text {n}" for n in range(6)]
    server.faults = [None, None, (400, {}, "no")]
    refused(make(batch_size=1), texts)
    assert len(server.bodies) == 3
    first = make(batch_size=1).encode(texts, "query")
    assert sorted(server.texts[3:]) == texts[2:]
    np.testing.assert_array_equal(make().encode(texts, "passage"), first)
    assert len(server.bodies) == 7
    make(dimensions=4).encode(texts, "query")
    make(name="other").encode(texts, "query")
    make(query_prefix="q ").encode(texts, "query")
    assert len(server.bodies) == 10


def test_what_was_under_way_when_another_request_failed_is_kept(make: Make, server: EndpointServer) -> None:
    server.faults = [late, (400, {}, "no")]
    refused(make(batch_size=1, concurrency=2), ["a", "b", "c", "d"])
    assert len(server.bodies) == 2
    make(batch_size=1).encode(["a", "b", "c", "d"], "query")
    assert len(server.bodies) == 2 + 3


def test_the_cost_limit_is_never_exceeded(make: Make, server: EndpointServer) -> None:
    """At a price of 1 a token, a text of ten words costs 10, and could cost a token for each byte of its request."""
    texts = [" ".join(letter * 10) for letter in "abcdefgh"]
    make(name="some-other").encode(["x"], "query")
    most = int(server.headers[0]["content-length"]) - 1 + len(texts[0])
    encoder = make(batch_size=1, price_per_million_tokens=1e6, max_cost=most + 35)
    message = refused(encoder, texts)
    assert f"model.max_cost={most + 35}" in message
    assert len(server.bodies) == 1 + 4  # 40 are spent, and `most` more could be too much
    assert encoder.meter.cost() == 40
    make(batch_size=1, price_per_million_tokens=1e6, max_cost=most + 35).encode(texts, "query")
    assert len(server.bodies) == 1 + 8


@pytest.mark.parametrize("said", ["-1000000", "-0.5", "Infinity", "-Infinity", "NaN", "1e999", "1" + "0" * 400])
def test_a_usage_that_no_answer_can_have_is_refused(make: Make, server: EndpointServer, said: str) -> None:
    """It would make room below the limit, or none ever again."""
    server.faults = [
        lambda body: (200, {}, json.dumps(answer_to(body) | {"usage": {"total_tokens": 0}}).replace(": 0}", f": {said}}}"))
    ]
    encoder = make(price_per_million_tokens=1e6, max_cost=1000)
    assert "usage.total_tokens=" in refused(encoder)
    assert encoder.meter.tokens > 0
    assert len(server.bodies) == 1


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": None}, {"total_tokens": "many"}, 3, []])
def test_without_a_usage_a_request_counts_by_its_length(make: Make, server: EndpointServer, usage: Any) -> None:
    server.faults = [lambda body: (200, {}, json.dumps(answer_to(body) | {"usage": usage}))]
    encoder = make()
    encoder.encode(["a"], "query")
    assert encoder.meter.tokens == int(server.headers[0]["content-length"])


def test_requests_without_an_answer_count_as_paid(make: Make, server: EndpointServer) -> None:
    server.faults = ["drop"] * 9
    limited = make(price_per_million_tokens=1e6, max_cost=250)
    assert "model.max_cost=250" in refused(limited, ["a" * 60])
    assert len(server.bodies) == 2
    server.faults = [(500, SOON, "")] * 9
    assert "500" in refused(make(price_per_million_tokens=1e6, max_cost=250), ["b" * 60])
    assert len(server.bodies) == 2 + 9


def test_requests_and_tokens_are_spread_over_the_minute(make: Make, server: EndpointServer) -> None:
    texts = [f"a b c d {n}" for n in range(5)]

    def arrivals(**limits: Any) -> Any:
        """Seconds after the start; a busy machine makes them later, and never earlier."""
        server.times.clear()
        start = time.monotonic()
        make(batch_size=1, **limits).encode(texts, "query")
        return np.sort(server.times) - start

    assert (arrivals(requests_per_minute=600, concurrency=4) >= 0.1 * np.arange(5)).all()
    # Five tokens a text, as the first answer says: each is 50 ms of 6,000 in a minute.
    assert (arrivals(name="other", tokens_per_minute=6000)[1:] >= 0.05 * np.arange(4)).all()


def test_fingerprints_tell_settings_apart(make: Make) -> None:
    one = make().fingerprint("query")
    assert one == make(concurrency=3, key_variable=None, retries=0).fingerprint("query")
    different = [
        make(name="x"),
        make(dimensions=4),
        make(normalize=False),
        make(query_prefix="q"),
        make(max_characters=9),
        make(base_url="http://x/v1"),
    ]
    assert len({one, *(encoder.fingerprint("query") for encoder in different)}) == 7
    assert make(passage_prefix="p").fingerprint("query") == one


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"batch_size": 0}, ["model.batch_size=0"]),
        ({"timeout": 0.0}, ["model.timeout=0.0"]),
        ({"dimensions": 0}, ["model.dimensions=0"]),
        ({"retries": -1}, ["model.retries=-1"]),
        ({"max_cost": 1.0}, ["model.max_cost=1.0", "model.price_per_million_tokens"]),
        ({"base_url": "api.openai.com/v1"}, ["model.base_url"]),
        ({"base_url": f"http://user:{KEY}@host/v1"}, ["model.base_url", "model.key_variable"]),
        ({"base_url": f"http://{KEY}@host/v1"}, ["model.base_url", "model.key_variable"]),
        ({"base_url": f"http://host/v1?key={KEY}"}, ["model.base_url", "model.key_variable"]),
        ({"base_url": f"http://host/v1#{KEY}"}, ["model.base_url", "model.key_variable"]),
        ({"base_url": "http://host/\n"}, ["model.base_url"]),
    ],
)
def test_bad_values_are_refused_by_their_key(make: Make, values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        make(**values)
    assert all(part in str(caught.value) for part in parts)
    assert KEY not in str(caught.value)


def refused_store(work: Callable[[], Any], file: Path) -> str:
    with pytest.raises(InputError) as caught:
        work()
    assert f"paths.cache: {file} cannot be read or written" in str(caught.value)
    return str(caught.value)


def test_a_store_that_is_damaged_or_locked_or_cannot_be_made_is_named(make: Make, tmp_path: Path) -> None:
    encoder = make()
    encoder.encode(["a"], "query")
    (file,) = (tmp_path / "cache" / "endpoints").glob("*.sqlite")
    store = TextVectors(file, patience=0.05)
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in refused_store(lambda: store.put(["b"], np.ones((1, 3), np.float32)), file)
    assert store.get(["a", "b"]).keys() == {"a"}
    file.write_bytes(b"no database" * 500)
    assert "not a database" in refused_store(lambda: encoder.encode(["a"], "query"), file)
    inside = tmp_path / "file" / "vectors.sqlite"
    inside.parent.write_text("")
    refused_store(lambda: TextVectors(inside), inside)


@pytest.mark.parametrize("bad", [[np.nan] * 6, [0.0] * 6, [1.0] * 4])
def test_vectors_that_an_earlier_version_kept_unchecked_are_refused_with_their_file(
    make: Make, server: EndpointServer, tmp_path: Path, bad: list[float]
) -> None:
    make().encode(["a", "b"], "query")
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    with closing(sqlite3.connect(file)) as database, database:
        where = [np.array(bad, np.float32).tobytes(), hashlib.sha256(b"a").digest()]
        database.execute("UPDATE vectors SET vector = ? WHERE text = ?", where)
    assert f"{file} holds embeddings" in refused(make(), ["a", "b"])
    file.unlink()
    make().encode(["a", "b"], "query")


def test_two_processes_may_keep_the_same_text(tmp_path: Path) -> None:
    first, second = (TextVectors(tmp_path / "vectors.sqlite") for _ in range(2))
    for store in (first, second):
        store.put(["a"], np.ones((1, 3), np.float32))
    assert second.get(["a", "b"]).keys() == {"a"}


def test_a_killed_evaluation_pays_for_nothing_again(make: Make, server: EndpointServer, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom hybrid_retrieval.config import PathsConfig\nfrom hybrid_retrieval.models.api import ApiEncoder\n"
        "encoder = ApiEncoder(PathsConfig(cache=sys.argv[1]), *sys.argv[2:], batch_size=1, concurrency=1)\n"
        "encoder.encode(list('abcdef'), 'query')"
    )
    started: list[subprocess.Popen[bytes]] = []

    def kill(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        started[0].kill()
        return 200, {}, json.dumps(answer_to(body))

    server.faults = [None, None, None, kill]
    started.append(
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cache"), "some-model", server.url, "SOME_KEY"])
    )
    assert started[0].wait(60) == -signal.SIGKILL
    assert server.texts == list("abcd")
    make().encode(list("abcdef"), "query")
    assert server.bodies[-1]["input"] == list("def")
