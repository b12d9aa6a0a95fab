"""Encoders behind an OpenAI-compatible endpoint: ``model=api``. They are evaluated, not trained.

The `openai` package repeats requests that fail. Here are the limits on time, pace and cost; every vector is checked and kept as
soon as it has come, so that nothing is paid for twice. The key is read from the environment when a request is sent, and is in
no error, log, config or file.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import openai

from hybrid_retrieval.cache import Cache, digest
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError, without_secret
from hybrid_retrieval.models.encoder import Encoder, Role
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import Count, NotNegative, Number, Positive, Processes, check

log = logging.getLogger(__name__)

Vector = npt.NDArray[np.float32]

MOST_TOKENS = 10**12
"""More than any request can have."""


@dataclass(eq=False)
class ApiEncoder(Encoder):
    """Texts to vectors by requests; ``conf/model/api.yaml`` explains the fields."""

    paths: PathsConfig
    name: str
    base_url: str = "https://api.openai.com/v1"
    key_variable: str | None = "OPENAI_API_KEY"
    dimensions: Count | None = None
    normalize: bool = True
    query_prefix: str = ""
    passage_prefix: str = ""
    max_characters: Count | None = None
    batch_size: Count = 128
    batch_characters: Count = 200_000
    concurrency: Processes = 4
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    price_per_million_tokens: NotNegative = 0.0
    max_cost: NotNegative | None = None
    timeout: Positive = 60.0
    retries: Number = 8
    strict: bool = field(default=False, init=False)
    """Make an error of texts that are cut, instead of a line in the log."""

    def __post_init__(self) -> None:
        check(type(self), vars(self), "model")
        if self.max_cost is not None and not self.price_per_million_tokens:
            raise InputError(f"model.max_cost={self.max_cost} needs model.price_per_million_tokens")
        without_secret("model.base_url", self.base_url)
        if not re.fullmatch(r"https?://[!-~]+", self.base_url):
            raise InputError(f"model.base_url={self.base_url}; expected http(s)://HOST/PATH")
        self.url = f"{self.base_url.rstrip('/')}/embeddings"
        self.meter = Meter(self)
        self._identity = [self.url, self.name, self.dimensions]
        self._kept = TextVectors(Cache.at(self.paths.cache).root / "endpoints" / f"{digest(self._identity)}.sqlite")

    def fingerprint(self, role: Role) -> str:
        """A digest of all that the embeddings of a text in this role depend on, but for the weights behind the name."""
        return digest([*self._identity, getattr(self, f"{role}_prefix"), self.normalize, self.max_characters])

    def encode(self, texts: Sequence[str], role: Role, label: str = "") -> Vector:
        """float32 [texts, dimensions]; what was asked for before is not asked for again.

        Raises:
            InputError: the endpoint refuses or fails, or would cost too much; or a text is cut and `strict` is set.
        """
        sent = self._prepared(texts, role, label)
        known = self._kept.get(dict.fromkeys(sent))
        if missing := [text for text in dict.fromkeys(sent) if text not in known]:
            self._ask(missing, label)
            known |= self._kept.get(missing)
        sizes = {len(vector) for vector in known.values()}
        if len(sizes) > 1 or not all(map(sound, known.values())):
            raise InputError(
                f"model=api: {self._kept.file} holds embeddings of {sorted(sizes)} dimensions, or none that can be compared; "
                "delete it to ask for them again"
            )
        found = np.array([known[text] for text in sent], np.float32).reshape(len(sent), *sizes or [0])
        return found / np.linalg.norm(found, axis=1, keepdims=True) if self.normalize else found

    def _prepared(self, texts: Sequence[str], role: Role, label: str) -> list[str]:
        """With the prefix, and cut where there is a limit; an empty text, which endpoints refuse, is a space."""
        whole = [getattr(self, f"{role}_prefix") + text or " " for text in texts]
        cut = [text[: self.max_characters] for text in whole]
        if label and (count := sum(one != other for one, other in zip(whole, cut, strict=True))):
            message = f"{label}: {count:,} of {len(whole):,} texts are cut to model.max_characters={self.max_characters}"
            if self.strict:
                raise InputError(f"strict=true: {message}")
            log.info(message)
        return cut

    def _ask(self, texts: Sequence[str], label: str) -> None:
        """Have the vectors of all `texts` kept. After a failure nothing new is sent, and what is under way is waited for."""
        batches = list(self._batches(texts))
        self.meter.stop.clear()
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                list(track(pool.map(self._embed, batches), label, len(batches), show=bool(label)))
            finally:
                self.meter.stop.set()
        if label:
            spent = f"{self.meter.tokens:,} tokens, cost {self.meter.cost():.4g}"
            log.info("%s: asked for %s texts; so far %s at most", label, f"{len(texts):,}", spent)

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Texts of a request each, one at least."""
        batch: list[str] = []
        for text in texts:
            if batch and (len(batch) == self.batch_size or sum(map(len, batch)) + len(text) > self.batch_characters):
                yield batch
                batch = []
            batch.append(text)
        yield batch

    def _embed(self, texts: list[str]) -> None:
        """Send one request, and keep its vectors on the disk."""
        try:
            answer = self._client.embeddings.create(
                model=self.name,
                input=texts,
                encoding_format="float",
                dimensions=self.dimensions or openai.omit,
                extra_headers=None if self.key_variable else {"Authorization": openai.omit},
            )
            self._kept.put(texts, self._vectors(self._sent(answer), len(texts)))
        except CancelledError:
            return
        except BaseException:
            self.meter.stop.set()
            raise

    def _sent(self, request: Any) -> Any:
        """The answer to a request of the package, in which anything may fail on an answer that is strange enough."""
        try:
            return asyncio.run_coroutine_threadsafe(request, self._loop).result()
        except (InputError, CancelledError):
            raise
        except Exception as error:
            raise self._explained(error) from None  # what the package says may quote the key

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """Where requests are sent: only there can one be broken off."""
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        return loop

    @cached_property
    def _client(self) -> Any:
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for every request
        return openai.AsyncOpenAI(
            api_key=self._key, base_url=self.base_url, max_retries=self.retries, http_client=Sender(self.meter, self.timeout)
        )

    async def _key(self) -> str:
        return self._secret()

    def _secret(self) -> str:
        key = os.environ.get(self.key_variable or "", "").strip()
        if self.key_variable and not re.fullmatch("[!-~]+", key):
            wrong = "holds a character that is in no key (a line break?)" if key else "is not set"
            raise InputError(f"model.key_variable={self.key_variable}: that environment variable {wrong}; expected a key")
        return key

    def _vectors(self, answer: Any, count: int) -> Vector:
        """float32 [count, dimensions] of an answer, in the order of its indices."""
        try:
            rows = {row.index: row.embedding for row in answer.data}
            numbers = [rows[index] for index in range(count)]
            plain = len(answer.data) == count and all(type(one) in (int, float) for row in numbers for one in row)
            with np.errstate(over="ignore"):
                vectors = np.array(numbers if plain else [], np.float32)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            vectors = np.empty(0, np.float32)
        if vectors.ndim != 2 or not all(map(sound, vectors)) or self.dimensions not in (None, vectors.shape[1]):
            expected = f"model.dimensions={self.dimensions}" if self.dimensions else "one length"
            raise InputError(
                f"model=api: {self.url} did not answer with {count} finite embeddings of {expected}, none of them 0; "
                "they are not kept"
            )
        return vectors

    def _explained(self, error: Exception) -> InputError:
        """A request that failed for good, in one line."""
        said = str(error)
        if (status := getattr(error, "status_code", None)) in (401, 403):
            said = f"it refuses model.key_variable={self.key_variable} ({status})"
        elif key := self._secret():
            said = said.replace(key, "***")
        advice = "; model.max_characters=N cuts texts" if "token" in said.lower() else ""
        return InputError(f"model=api: {self.url} failed: {' '.join(said.split())[:200]}{advice}; answers are kept")


class Meter:
    """Pace and budget of an encoder's requests, over all threads and tries.

    A token of text takes a byte or more, so that the length of a request's body bounds its tokens. That is what it counts for
    until it is answered, and for good where no answer comes; an answer other than 200 is not charged for.
    """

    def __init__(self, limits: ApiEncoder) -> None:
        self.limits = limits
        self.tokens = 0
        self.stop = threading.Event()
        """Set where nothing more may be sent."""
        self._bytes_a_token = 4.0  # a guess, until there is an answer
        self._lock, self._free = threading.Lock(), 0.0

    def cost(self, more: int = 0) -> float:
        """The cost of all tokens so far, and of so many `more`."""
        return (self.tokens + more) * self.limits.price_per_million_tokens / 1e6

    def before(self, request: httpx2.Request) -> None:
        """Wait for a request's turn, spread evenly over the minute, and take what it may cost at most from the budget."""
        size, limits = len(request.content), self.limits
        of_request = 60 / limits.requests_per_minute if limits.requests_per_minute else 0
        of_tokens = 60 * size / self._bytes_a_token / limits.tokens_per_minute if limits.tokens_per_minute else 0
        with self._lock:
            start = max(time.monotonic(), self._free)
            self._free = start + max(of_request, of_tokens)
        if self.stop.wait(max(0.0, start - time.monotonic())):
            raise CancelledError
        with self._lock:
            if limits.max_cost is not None and self.cost(size) > limits.max_cost:
                raise InputError(
                    f"model.max_cost={limits.max_cost:g} could be exceeded: {self.cost():.4g} is spent, {self.cost(size):.4g} "
                    "with the next request; answers are kept, and a higher limit goes on from here"
                )
            self.tokens += size

    def after(self, response: httpx2.Response) -> None:
        """Replace what a request could have cost by what its answer says.

        Raises:
            InputError: it says what no answer can cost.
        """
        size, taken = len(response.request.content), 0
        if response.status_code == 200:
            try:
                said = response.json()["usage"]["total_tokens"]
            except (KeyError, TypeError, ValueError, RecursionError):
                said = None
            taken = said if type(said) in (int, float) else size
            if not 0 <= taken <= MOST_TOKENS:
                raise InputError(
                    f"model=api: {self.limits.url} answers with usage.total_tokens={said!r:.40}; expected a number from 0 up"
                )
            self._bytes_a_token = size / max(taken, 1)
        with self._lock:
            self.tokens += int(taken) - size


class Sender(openai.DefaultAsyncHttpxClient):  # type: ignore[misc]  # of a package without types here
    """Sends one try of a request when its turn has come, and breaks it off where its answer is not whole in time.

    httpx's own timeout begins anew with every byte.
    """

    def __init__(self, meter: Meter, timeout: float) -> None:
        super().__init__(follow_redirects=False, timeout=timeout)  # a redirection would take the key somewhere else
        self.meter, self.seconds = meter, timeout

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        """As `httpx2.AsyncClient` has it."""
        await asyncio.to_thread(self.meter.before, request)
        try:
            async with asyncio.timeout(self.seconds):
                response: httpx2.Response = await super().send(request, **how)
                await response.aread()
        except TimeoutError as error:
            raise httpx2.ReadTimeout("", request=request) from error
        self.meter.after(response)
        return response


class TextVectors:
    """Vectors by text in one SQLite file a model, for several threads and processes; a kill loses nothing that was written."""

    def __init__(self, file: Path, patience: float = 60.0) -> None:
        self.file, self.patience = file, patience
        with self._open() as database:
            database.execute("CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")

    def get(self, texts: Iterable[str]) -> dict[str, Vector]:
        """The vectors of those texts that are known."""
        with self._open() as database:
            rows = ((text, database.execute("SELECT vector FROM vectors WHERE text = ?", [_id(text)])) for text in texts)
            return {text: np.frombuffer(row[0], np.float32) for text, found in rows if (row := found.fetchone())}

    def put(self, texts: Sequence[str], vectors: Vector) -> None:
        """Keep them: they are on the disk when this returns.

        Raises:
            InputError: they are of other dimensions than those that are kept.
        """
        rows = [(_id(text), vector.tobytes()) for text, vector in zip(texts, vectors, strict=True)]
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            kept = database.execute("SELECT length(vector) / 4 FROM vectors LIMIT 1").fetchone()
            if kept and kept[0] != vectors.shape[1]:
                raise InputError(
                    f"model=api: the endpoint gives embeddings of {vectors.shape[1]} dimensions; those in {self.file} have "
                    f"{kept[0]}: delete it if they are wrong"
                )
            database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=self.patience)) as database, database:
                yield database
        except (sqlite3.Error, OSError, ValueError) as error:
            raise InputError(f"paths.cache: {self.file} cannot be read or written ({error})") from error


def sound(vector: Vector) -> bool:
    """Whether a vector is finite, and has a direction."""
    with np.errstate(over="ignore"):
        return bool(0 < np.linalg.norm(vector) < np.inf)


def _id(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
