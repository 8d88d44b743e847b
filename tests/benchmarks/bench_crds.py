"""How fast best references are told, beside the plain crds client in the same run.

Run by hand: ``python -m tests.benchmarks.bench_crds --json FILE``; as a test it asks few questions, so that it cannot
rot.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import argparse
import asyncio
import contextlib
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from tests.crds_proxy.published import publish, publish_two

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.cache_holdings import CacheHoldings
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.crds import client_environment, mappings, register
from irisdrs.shared.crds.cache import Cache, facts_of, write_manifest
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.references import CARDS, HEADER, write_reference
from irisdrs.shared.web_server import serving

#: Reference types of one question: what the pipeline of the readout asks for.
TYPES = tuple(kind for kind in CARDS if kind != "readnoise")

#: Questions a second of the goal, and connections that ask them.
RATE, CONNECTIONS = 500.0, 4

#: References of the large reference mapping.
LARGE = 12_000

NEW = "tmt_0002.pmap"


#: Rounds in which all who are compared take turns, so that what else the machine does meets all of them.
ROUNDS = 5


@dataclass(slots=True)
class Asked:
    """What questions took.

    Attributes
    ----------
    seconds : list of float
        Each of them.
    wall_s : float
        All of them, those who ask and wait included.
    server_s : float
        CPU time of the server.
    """

    seconds: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    server_s: float = 0.0

    def figures(self) -> dict[str, float]:
        """Median and p99, ms; questions a second; CPU time of the server for one, ms."""
        median, p99 = np.percentile(self.seconds, [50, 99]) * 1e3
        found = {"median_ms": float(median), "p99_ms": float(p99), "per_second": len(self.seconds) / self.wall_s}
        if self.server_s:
            found["cpu_ms"] = 1e3 * self.server_s / len(self.seconds)
        return {name: round(value, 4) for name, value in found.items()}

    @contextlib.contextmanager
    def measured(self, server: int | None = None) -> Iterator[None]:
        """Take the time, and the CPU time of a server."""
        start_s, start_cpu_s = time.perf_counter(), cpu_s(server)
        yield
        self.wall_s += time.perf_counter() - start_s
        self.server_s += cpu_s(server) - start_cpu_s

    def ask(self, question: Callable[[int], object], numbers: range) -> None:
        """Ask one after the other."""
        with self.measured():
            for number in numbers:
                before_s = time.perf_counter()
                question(number)
                self.seconds.append(time.perf_counter() - before_s)

    async def ask_async(self, question: Callable[[int], Awaitable[object]], numbers: range) -> None:
        """Ask one after the other."""
        with self.measured():
            for number in numbers:
                before_s = time.perf_counter()
                await question(number)
                self.seconds.append(time.perf_counter() - before_s)


def cpu_s(process: int | None) -> float:
    """CPU time that a process has taken, seconds."""
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return float(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rounds(count: int) -> list[range]:
    """Numbers of the questions of each round."""
    return [range(n * count // ROUNDS, (n + 1) * count // ROUNDS) for n in range(ROUNDS)]


def build_large(cache: Cache) -> None:
    """A context whose dark has 12,000 references: of 4 detectors, 3 sampling modes and 1000 integration times."""
    cache.prepare()
    kind = reference_types()["dark"]
    rows: mappings.Rows = {
        ((f"IMG{1 + n % 4}", ("UTR", "CDS", "MCDS")[n // 4 % 3], integration_time(n), "FULL"), "2030-01-01 00:00:00"):
        f"tmt_iris_dark_{n + 1:05d}.fits"
        for n in range(LARGE)
    }  # fmt: skip
    mappings.write_reference_mapping(cache.mappings, "tmt_iris_dark_0001.rmap", "", kind, rows)
    mappings.write_instrument_mapping(cache.mappings, "tmt_iris_0001.imap", "", {"dark": "tmt_iris_dark_0001.rmap"})
    mappings.write_context(cache.mappings, "tmt_0001.pmap", "", "tmt_iris_0001.imap")
    names = ("tmt_iris_dark_0001.rmap", "tmt_iris_0001.imap", "tmt_0001.pmap")
    write_manifest(cache, {name: facts_of(cache.path(name)) for name in names})


def integration_time(number: int) -> str:
    return str(round(0.72 * (number // 12 + 1), 3))


def header_of(number: int) -> dict[str, str]:
    """Asks for the dark of this number."""
    return HEADER | {
        "meta.instrument.detector": f"IMG{1 + number % 4}",
        "meta.exposure.sampling_mode": ("UTR", "CDS", "MCDS")[number // 4 % 3],
        "meta.exposure.integration_time": integration_time(number),
    }


@contextlib.contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


async def in_process(cache: Cache, count: int) -> dict[str, Asked]:
    """`getreferences` of the plain client in local mode, and the same question to `LocalReferences`, files included."""
    import crds
    from crds.core import utils

    files = Verifier(cache)
    references = LocalReferences(CacheHoldings(files), files)
    await references.best_references(HEADER, TYPES, NEW)
    plain, ours = Asked(), Asked()
    with environment(client_environment(cache.root)):
        utils.clear_function_caches()
        for numbers in rounds(count):
            plain.ask(
                lambda _: crds.getreferences(HEADER, reftypes=list(TYPES), context=NEW, observatory="tmt"), numbers
            )
            await ours.ask_async(lambda _: references.best_references(HEADER, TYPES, NEW), numbers)
        utils.clear_function_caches()
    return {"in process, plain client": plain, "in process, remembered": ours}


async def of_large_mapping(cache: Cache, count: int) -> tuple[dict[str, Asked], float]:
    """Questions that were never asked before: the plain client's matching, and ours; and how long ours loads (s)."""
    from crds.core import rmap

    plain_rules = rmap.load_mapping("tmt_0001.pmap", path=str(cache.mappings))
    plain_rules.force_load()
    files = Verifier(cache)
    references = LocalReferences(CacheHoldings(files), files)
    loading = Asked()
    await loading.ask_async(lambda _: references.choose(header_of(LARGE - 1), ["dark"], "tmt_0001.pmap"), range(1))

    def ask_plain(number: int) -> None:
        header = {key.upper(): value for key, value in header_of(7 * number).items()}
        found = plain_rules.get_best_references(plain_rules.minimize_header(header), include=["dark"])
        assert found["dark"] == f"tmt_iris_dark_{7 * number + 1:05d}.fits"

    async def ask_ours(number: int) -> None:
        found = await references.choose(header_of(7 * number), ["dark"], "tmt_0001.pmap")
        assert found["dark"] == f"tmt_iris_dark_{7 * number + 1:05d}.fits"

    plain, ours = Asked(), Asked()
    for numbers in rounds(count):
        plain.ask(ask_plain, numbers)
        await ours.ask_async(ask_ours, numbers)
    asked = {"mapping of 12,000, plain client": plain, "mapping of 12,000, never asked before": ours}
    return asked, loading.wall_s


class Connection:
    """A connection that is kept, over which the same question is asked as the client asks it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, *params: Any) -> None:
        self._reader, self._writer = reader, writer
        body = json.dumps({"jsonrpc": "1.0", "method": method, "params": params, "id": "bench-1"}).encode()
        head = f"POST /json/{method}/bench-1/ HTTP/1.1\r\nHost: crds\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body

    async def ask(self) -> Any:
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return json.loads(await self._reader.readexactly(length))["result"]

    def close(self) -> None:
        self._writer.close()


async def connected(url: str, method: str, *params: Any) -> Connection:
    host, port = url.removeprefix("http://").split(":")
    return Connection(*await asyncio.open_connection(host, int(port)), method, *params)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server answers, and its process."""

    url: str
    process: int


async def over_http(server: Server, asked: Asked, seconds: float, rate: float | None) -> None:
    """Questions over kept connections: so many a second, or one after the other."""
    question = ("get_best_references", NEW, HEADER, list(TYPES))
    lines = [await connected(server.url, *question) for _ in range(CONNECTIONS)]
    for line in lines:
        assert len(await line.ask()) == len(TYPES)
    start_s = time.perf_counter()

    async def one(number: int, line: Connection) -> None:
        for turn in range(sys.maxsize):
            # Of questions that come at a fixed rate, one that has to wait for the one before waits at its own cost.
            due_s = time.perf_counter() if rate is None else start_s + (turn * CONNECTIONS + number) / rate
            if due_s - start_s > seconds:
                return
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            await line.ask()
            asked.seconds.append(time.perf_counter() - due_s)

    with asked.measured(server.process):
        await asyncio.gather(*(one(number, line) for number, line in enumerate(lines)))
    for line in lines:
        line.close()


async def client_over_http(server: Server, asked: Asked, numbers: range) -> None:
    """The plain client in remote mode: a connection for each question."""
    from crds.client import api

    api.set_crds_server(server.url)
    header = {key.upper(): value for key, value in HEADER.items()}
    question = functools.partial(api.get_best_references, NEW, header, list(TYPES))
    assert len(question()) == len(TYPES)
    start_cpu_s = cpu_s(server.process)
    await asyncio.to_thread(asked.ask, lambda _: question(), numbers)
    asked.server_s += cpu_s(server.process) - start_cpu_s


async def visible_after(url: str, store: DirectoryStore, source: Cache, folder: Path, deliveries: int) -> float:
    """Longest time from the commit of a context to its being told as the one in force, seconds."""
    line = await connected(url, "get_default_context", "tmt")
    longest_s = 0.0
    for number in range(deliveries):
        gain = write_reference(folder / f"gain{number}.fits", "gain", DESCRIP=f"number {number}")
        context = build_context(source.root, [gain])
        await publish(store, source, datetime.now(UTC))
        start_s = time.perf_counter()
        while await line.ask() != context:
            await asyncio.sleep(0.005)
        longest_s = max(longest_s, time.perf_counter() - start_s)
    line.close()
    return longest_s


async def serve_ours(folder: Path) -> None:
    """crds_proxy in this process, until it is ended."""
    files = Verifier(Cache(folder / "server"))
    references = LocalReferences(StoreHoldings(DirectoryStore(folder / "store"), files), files)
    async with serving(application(references), "127.0.0.1", 0) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


def serve_plain(folder: Path) -> None:
    """A plain server around the client's own functions, as it is written without thinking of speed."""
    from crds.core import heavy_client

    os.environ.update(client_environment(folder / "source" / "built"))

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            context, header, types = call["params"]
            found = heavy_client.hv_best_references(context, header, types)
            body = json.dumps({"result": found, "error": None, "id": call["id"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


@contextlib.asynccontextmanager
async def server_process(kind: str, folder: Path) -> AsyncIterator[Server]:
    """A server in a process of its own."""
    command = ("-m", "tests.benchmarks.bench_crds", f"--serve-{kind}", str(folder))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        # By name, because the client warns of every address that is neither this nor https.
        url = (await process.stdout.readline()).decode().strip().replace("127.0.0.1", "localhost")
        yield Server(url, process.pid)
    finally:
        process.terminate()
        await process.wait()


async def of_servers(plain: Server, ours: Server, count: int, seconds: float) -> dict[str, Asked]:
    """The same questions to both servers, who take turns."""
    kept_plain, kept, paced, client_plain, client = [Asked() for _ in range(5)]
    for numbers in rounds(count):
        await over_http(plain, kept_plain, seconds / ROUNDS, None)
        await over_http(ours, kept, seconds / ROUNDS, None)
        await over_http(ours, paced, seconds / ROUNDS, RATE)
        await client_over_http(plain, client_plain, numbers)
        await client_over_http(ours, client, numbers)
    return {
        "HTTP, plain server": kept_plain,
        "HTTP": kept,
        f"HTTP, {RATE:.0f}/s": paced,
        "HTTP, plain server, plain client": client_plain,
        "HTTP, plain client": client,
    }


async def measure(folder: Path, questions: int, seconds: float) -> tuple[dict[str, Asked], dict[str, float]]:
    """Questions, and single figures."""
    register()
    store = DirectoryStore(folder / "store")
    source, _ = await publish_two(store, folder / "source")
    large = Cache(folder / "large")
    build_large(large)
    load = os.getloadavg()[0]
    asked = await in_process(source, questions)
    of_large, loading_s = await of_large_mapping(large, min(questions, LARGE // 7))
    async with server_process("plain", folder) as plain, server_process("ours", folder) as ours:
        asked |= of_large | await of_servers(plain, ours, questions, seconds)
        seen_s = await visible_after(ours.url, store, source, folder, 5)
    single = {"mapping of 12,000, loaded after, s": loading_s, "new context seen after, s": seen_s, "load": load}
    return asked, {name: round(value, 3) for name, value in single.items()}


def show(asked: Mapping[str, Asked], single: Mapping[str, float]) -> None:
    print(f"\n{'':40} {'median, ms':>10} {'p99, ms':>9} {'a second':>9} {'CPU, ms':>8}")
    for name, questions in asked.items():
        found = questions.figures()
        cpu = f"{found['cpu_ms']:8.2f}" if "cpu_ms" in found else ""
        print(f"{name:40} {found['median_ms']:10.3f} {found['p99_ms']:9.3f} {found['per_second']:9.0f} {cpu}")
    for name, value in single.items():
        print(f"{name:40} {value:10.3f}")


async def test_few_questions_are_answered_by_all_of_them(tmp_path: Path) -> None:
    asked, single = await measure(tmp_path, questions=20, seconds=0.5)
    show(asked, single)
    assert single["new context seen after, s"] < 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--questions", type=int, default=1700)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--serve-ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve-plain", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve_ours or given.serve_plain:
        register()
    if given.serve_ours:
        asyncio.run(serve_ours(given.serve_ours))
    elif given.serve_plain:
        serve_plain(given.serve_plain)
    else:
        with tempfile.TemporaryDirectory() as folder:
            asked, single = asyncio.run(measure(Path(folder), given.questions, given.seconds))
        show(asked, single)
        if given.json:
            found = {name: questions.figures() for name, questions in asked.items()} | single
            given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
