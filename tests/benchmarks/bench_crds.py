"""How fast best references are told, beside the plain crds client in the same run.

Run by hand: ``python -m tests.benchmarks.bench_crds --json FILE``; as a test it asks few questions, so that it cannot
rot.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Times:
    """Durations of many questions, ms; how many a second; CPU time that one takes of the server, ms."""

    median_ms: float
    p99_ms: float
    per_second: float
    cpu_ms: float | None

    @classmethod
    def of(cls, seconds: list[float], wall_s: float, server_s: float | None = None) -> "Times":
        median, p99 = np.percentile(seconds, [50, 99]) * 1e3
        cpu_ms = None if server_s is None else round(1e3 * server_s / len(seconds), 3)
        return cls(round(float(median), 4), round(float(p99), 4), round(len(seconds) / wall_s, 1), cpu_ms)


def timed(ask: Callable[[int], object], count: int) -> Times:
    seconds, start_s = [], time.perf_counter()
    for number in range(count):
        before_s = time.perf_counter()
        ask(number)
        seconds.append(time.perf_counter() - before_s)
    return Times.of(seconds, time.perf_counter() - start_s)


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


def plain_in_process(cache: Cache, count: int) -> Times:
    """The plain client, `getreferences` in local mode."""
    import crds
    from crds.core import utils

    def ask(number: int) -> None:
        crds.getreferences(HEADER, reftypes=list(TYPES), context=NEW, observatory="tmt")

    with environment(client_environment(cache.root)):
        utils.clear_function_caches()
        ask(0)
        times = timed(ask, count)
        utils.clear_function_caches()
    return times


async def ours_in_process(cache: Cache, count: int) -> Times:
    """The same questions to `LocalReferences`, files looked at."""
    files = Verifier(cache)
    references = LocalReferences(CacheHoldings(files), files)
    await references.best_references(HEADER, TYPES, NEW)
    seconds, start_s = [], time.perf_counter()
    for _ in range(count):
        before_s = time.perf_counter()
        await references.best_references(HEADER, TYPES, NEW)
        seconds.append(time.perf_counter() - before_s)
    return Times.of(seconds, time.perf_counter() - start_s)


async def misses_of_large(cache: Cache, count: int) -> tuple[Times, Times, float]:
    """Questions that were never asked, of the large mapping: the plain client's matching, ours, and loading (s)."""
    from crds.core import rmap

    plain = rmap.load_mapping("tmt_0001.pmap", path=str(cache.mappings))
    plain.force_load()
    upper = [{key.upper(): value for key, value in header_of(7 * n).items()} for n in range(count)]

    def ask(number: int) -> None:
        found = plain.get_best_references(plain.minimize_header(upper[number]), include=["dark"])
        assert found["dark"] == f"tmt_iris_dark_{7 * number + 1:05d}.fits", found

    plain_times = timed(ask, count)
    files = Verifier(cache)
    references = LocalReferences(CacheHoldings(files), files)
    start_s = time.perf_counter()
    await references.choose(header_of(LARGE - 1), ["dark"], "tmt_0001.pmap")
    loading_s = time.perf_counter() - start_s
    seconds, start_s = [], time.perf_counter()
    for number in range(count):
        header = header_of(7 * number)
        before_s = time.perf_counter()
        found = await references.choose(header, ["dark"], "tmt_0001.pmap")
        seconds.append(time.perf_counter() - before_s)
        assert found["dark"] == f"tmt_iris_dark_{7 * number + 1:05d}.fits"
    return plain_times, Times.of(seconds, time.perf_counter() - start_s), loading_s


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


def cpu_s(process: int) -> float:
    """CPU time that a process has taken, seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def over_http(server: tuple[str, int], seconds: float, rate: float | None) -> Times:
    """Questions over kept connections: so many a second, or one after the other."""
    url, process = server
    question = ("get_best_references", NEW, HEADER, list(TYPES))
    lines = [await connected(url, *question) for _ in range(CONNECTIONS)]
    for line in lines:
        assert len(await line.ask()) == len(TYPES)
    times: list[float] = []
    start_s, start_cpu_s = time.perf_counter(), cpu_s(process)

    async def one(number: int, line: Connection) -> None:
        for turn in range(sys.maxsize):
            # Of questions that come at a fixed rate, one that has to wait for the one before waits at its own cost.
            due_s = time.perf_counter() if rate is None else start_s + (turn * CONNECTIONS + number) / rate
            if due_s - start_s > seconds:
                return
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            await line.ask()
            times.append(time.perf_counter() - due_s)

    await asyncio.gather(*(one(number, line) for number, line in enumerate(lines)))
    wall_s = time.perf_counter() - start_s
    for line in lines:
        line.close()
    return Times.of(times, wall_s, cpu_s(process) - start_cpu_s)


async def client_over_http(server: tuple[str, int], count: int) -> Times:
    """The plain client in remote mode: a connection for each question."""
    from crds.client import api

    url, process = server
    api.set_crds_server(url)
    header = {key.upper(): value for key, value in HEADER.items()}

    def ask(number: int) -> None:
        assert len(api.get_best_references(NEW, header, list(TYPES))) == len(TYPES)

    ask(0)
    start_cpu_s = cpu_s(process)
    times = await asyncio.to_thread(timed, ask, count)
    return replace(times, cpu_ms=round(1e3 * (cpu_s(process) - start_cpu_s) / count, 3))


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
async def server_process(kind: str, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """A server in a process of its own; gives its address and process number."""
    command = ("-m", "tests.benchmarks.bench_crds", f"--serve-{kind}", str(folder))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip(), process.pid
    finally:
        process.terminate()
        await process.wait()


async def measure(folder: Path, questions: int, seconds: float) -> dict[str, Any]:
    """All figures."""
    register()
    store = DirectoryStore(folder / "store")
    source, _ = await publish_two(store, folder / "source")
    large = Cache(folder / "large")
    build_large(large)
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "types": len(TYPES)}
    figures["in process, plain client"] = plain_in_process(source, questions)
    figures["in process, remembered"] = await ours_in_process(source, questions)
    plain, ours, loading_s = await misses_of_large(large, min(questions, LARGE // 7))
    figures["mapping of 12,000, plain client"] = plain
    figures["mapping of 12,000, never asked before"] = ours
    figures["mapping of 12,000, loading, s"] = round(loading_s, 2)
    async with server_process("plain", folder) as (url, process):
        figures["over HTTP, plain server, kept connections"] = await over_http((url, process), seconds, None)
        figures["over HTTP, plain server, plain client"] = await client_over_http((url, process), questions)
    async with server_process("ours", folder) as (url, process):
        figures["over HTTP, kept connections"] = await over_http((url, process), seconds, None)
        figures[f"over HTTP, {RATE:.0f}/s"] = await over_http((url, process), seconds, RATE)
        figures["over HTTP, plain client"] = await client_over_http((url, process), questions)
        figures["new context seen after, s"] = round(await visible_after(url, store, source, folder, 5), 3)
    return figures


def show(figures: Mapping[str, Any]) -> None:
    print(f"{'':42} {'median, ms':>10} {'p99, ms':>9} {'a second':>9} {'CPU, ms':>8}")
    for name, figure in figures.items():
        if isinstance(figure, Times):
            cpu = "" if figure.cpu_ms is None else f"{figure.cpu_ms:8.2f}"
            print(f"{name:42} {figure.median_ms:10.3f} {figure.p99_ms:9.3f} {figure.per_second:9.0f} {cpu}")
        else:
            print(f"{name:42} {figure:10.3f}")


def as_json(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(figure) if isinstance(figure, Times) else figure for name, figure in figures.items()}


async def test_few_questions_are_answered_by_all_of_them(tmp_path: Path) -> None:
    figures = await measure(tmp_path, questions=20, seconds=0.5)
    show(figures)
    assert figures["new context seen after, s"] < 1.0


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
            figures = asyncio.run(measure(Path(folder), given.questions, given.seconds))
        show(figures)
        if given.json:
            given.json.write_text(json.dumps(as_json(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
