"""The client of crds_proxy against a real server behind a bad line, beside other processes, on a bad disk."""

import asyncio
import hashlib
import os
import resource
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.crds_proxy.faulty_line import (
    SOON_S,
    Fault,
    Line,
    Message,
    Send,
    cut_off,
    failing,
    flipped,
    longer,
    served,
    shorter,
)

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.main import open_references
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.errors import Fatal, MissingReference, Outage, Retryable
from irisdrs.shared.http_references import HttpReferences
from irisdrs.shared.reference_files import ReferenceFiles
from irisdrs.shared.reference_wire import MAX_QUESTION_BYTES, FoundReference
from irisdrs.shared.testing.references import CARDS, HEADER, write_references
from irisdrs.shared.testing.servers.process import reserved_port

TYPES = tuple(CARDS)
CONTEXT = "tmt_0001.pmap"
GAIN = "tmt_iris_gain_0001.fits"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    build_context(folder / "cache", write_references(folder))
    return folder / "cache"


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Cache:
    shutil.copytree(built, tmp_path / "crds")
    return Cache(tmp_path / "crds")


@pytest.fixture
def line(cache: Cache) -> Line:
    return Line(application(open_references(cache.root)))


@pytest.fixture
async def url(line: Line) -> AsyncIterator[str]:
    async with served(line) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fetched"


@pytest.fixture
async def references(url: str, folder: Path) -> AsyncIterator[HttpReferences]:
    references = HttpReferences(url, folder)
    yield references
    await references.close()


async def gain_of(references: HttpReferences) -> Path:
    return (await references.best_references(HEADER, ["gain"], CONTEXT))["gain"].path


def visible(folder: Path) -> list[str]:
    """Files that somebody could take for references."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.part"))


async def test_many_tasks_fetch_each_file_once(references: HttpReferences, line: Line) -> None:
    await asyncio.gather(*(references.best_references(HEADER, TYPES[n % 7 :], CONTEXT) for n in range(30)))
    assert sorted(line.downloads) == sorted(f"tmt_iris_{kind}_0001.fits" for kind in TYPES)


async def test_a_repeated_question_asks_nobody(references: HttpReferences, line: Line) -> None:
    first = await references.best_references(HEADER, TYPES, CONTEXT)
    asked = len(line.requests)
    assert await references.best_references(HEADER, TYPES, CONTEXT) == first
    assert len(line.requests) == asked
    await references.best_references(HEADER | {"meta.observation.time": "06:00:00"}, TYPES, CONTEXT)
    await references.best_references(HEADER, TYPES[::-1], CONTEXT)
    assert len(line.requests) == asked + 2


async def test_a_missing_reference_is_asked_for_again(references: HttpReferences, cache: Cache) -> None:
    path = cache.references / GAIN
    path.rename(path.with_suffix(".away"))
    with pytest.raises(MissingReference):
        await gain_of(references)
    path.with_suffix(".away").rename(path)
    assert (await gain_of(references)).name == GAIN


async def test_files_of_an_earlier_process_are_verified_and_used(url: str, line: Line, folder: Path) -> None:
    for _ in range(2):
        references = HttpReferences(url, folder)
        await references.best_references(HEADER, TYPES, CONTEXT)
        await references.close()
    assert len(line.downloads) == len(TYPES)


ASK = """
import asyncio, sys
from pathlib import Path
from irisdrs.shared.http_references import HttpReferences
from irisdrs.shared.testing.references import HEADER

async def ask():
    references = HttpReferences(sys.argv[1], Path(sys.argv[2]))
    found = await references.best_references(HEADER, sys.argv[3].split(), "tmt_0001.pmap")
    print(*(each.path for each in found.values()), sep="\\n")
    await references.close()

asyncio.run(ask())
"""


async def another_process(url: str, folder: Path, types: str) -> asyncio.subprocess.Process:
    """Another process that asks for references, and prints their paths."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASK, url, str(folder), types, stdout=asyncio.subprocess.PIPE
    )


async def test_processes_that_share_a_folder_fetch_each_file_once(url: str, line: Line, folder: Path) -> None:
    processes = [await another_process(url, folder, " ".join(TYPES)) for _ in range(3)]
    printed = [(await process.communicate())[0].decode().split() for process in processes]
    assert printed[0] == printed[1] == printed[2]
    assert [Path(path).name for path in printed[0]] == [f"tmt_iris_{kind}_0001.fits" for kind in TYPES]
    assert sorted(line.downloads) == sorted(Path(path).name for path in printed[0])


async def test_a_process_that_is_killed_within_a_download_leaves_nothing_visible(
    references: HttpReferences, url: str, line: Line, folder: Path
) -> None:
    line.open.clear()
    process = await another_process(url, folder, "gain")
    await line.until_download()
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert visible(folder) == []
    assert len(parts(folder)) == 1
    line.open.set()
    assert (await gain_of(references)).name == GAIN
    assert len(parts(folder)) == 1  # it could be that of a process that fetches


async def test_what_a_killed_process_left_is_removed_a_day_later(references: HttpReferences, folder: Path) -> None:
    path = await gain_of(references)
    old, new = path.parent / ".old.part", path.parent / ".new.part"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    path.unlink()
    await gain_of(references)
    assert parts(folder) == [new]


async def test_who_gives_up_does_not_take_the_file_away_from_others(references: HttpReferences, line: Line) -> None:
    line.open.clear()
    first, second = asyncio.create_task(gain_of(references)), asyncio.create_task(gain_of(references))
    await line.until_download()
    first.cancel()
    await asyncio.wait({first}, timeout=SOON_S)
    assert first.cancelled()
    line.open.set()
    assert (await second).name == GAIN
    assert line.downloads == [GAIN]


@pytest.mark.parametrize("fault", [flipped, cut_off, shorter, longer, failing])
async def test_a_download_that_fails_once_is_repeated(
    references: HttpReferences, line: Line, folder: Path, cache: Cache, fault: Fault
) -> None:
    line.faults = [fault]
    path = await gain_of(references)
    assert path.read_bytes() == (cache.references / GAIN).read_bytes()
    assert line.downloads == [GAIN, GAIN]
    assert (visible(folder), parts(folder)) == ([GAIN], [])


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (flipped, Retryable, "SHA-256"),
        (shorter, Retryable, "100 bytes"),
        (longer, Retryable, "more than"),
        (cut_off, Outage, "IRIS_CRDS_URL"),
        (failing, Outage, "IRIS_CRDS_URL"),
    ],
)
async def test_a_download_that_fails_twice_says_why_and_leaves_nothing(
    references: HttpReferences, line: Line, folder: Path, fault: Fault, error: type[Exception], text: str
) -> None:
    line.faults = [fault, fault]
    with pytest.raises(error, match=text):
        await gain_of(references)
    assert (visible(folder), parts(folder)) == ([], [])
    assert (await gain_of(references)).name == GAIN


def overwrite(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize("damage", [overwrite, Path.unlink])
async def test_a_local_file_that_was_touched_is_fetched_again(
    references: HttpReferences, cache: Cache, damage: Callable[[Path], None]
) -> None:
    damage(await gain_of(references))
    path = await gain_of(references)
    assert path.read_bytes() == (cache.references / GAIN).read_bytes()
    assert path.stat().st_mode & 0o222 == 0


async def test_the_proxy_may_go_away_and_come_back(line: Line, folder: Path) -> None:
    with reserved_port() as port:
        references = HttpReferences(f"http://127.0.0.1:{port}", folder)
        async with served(line, port):
            found = await references.best_references(HEADER, TYPES, CONTEXT)
        assert await references.best_references(HEADER, TYPES, CONTEXT) == found
        for question in (references.default_context(), references.best_references(HEADER, TYPES[:2], CONTEXT)):
            with pytest.raises(Outage, match=rf"127\.0\.0\.1:{port} \(IRIS_CRDS_URL\) does not answer") as raised:
                await question
            assert "IRIS_CRDS_URL" in raised.value.remedy
        found["gain"].path.unlink()
        with pytest.raises(Outage, match="does not answer"):
            await references.best_references(HEADER, TYPES, CONTEXT)
        async with served(line, port):
            assert await references.best_references(HEADER, TYPES, CONTEXT) == found
            assert await references.default_context() == CONTEXT
        await references.close()


async def test_a_proxy_that_was_started_anew_between_two_questions_is_no_outage(line: Line, folder: Path) -> None:
    with reserved_port() as port:
        references = HttpReferences(f"http://127.0.0.1:{port}", folder)
        for _ in range(3):  # each time, the client holds a connection that the proxy has closed
            async with served(line, port):
                assert await references.default_context() == CONTEXT
        await references.close()


async def closing(times: int) -> asyncio.Server:
    """A server that closes so many connections under their request, and then answers."""
    left = [None] * times
    body = b'{"context": "tmt_0001.pmap"}'

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if left:
            left.pop()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()

    return await asyncio.start_server(take, "127.0.0.1", 0)


async def test_a_question_whose_connection_closes_is_asked_once_more(folder: Path) -> None:
    for times, answered in ((1, True), (2, False)):
        async with await closing(times) as server:
            references = HttpReferences(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", folder)
            if answered:
                assert await references.default_context() == CONTEXT
            else:
                with pytest.raises(Outage, match="does not answer"):
                    await references.default_context()
            await references.close()


async def test_silence_is_an_outage(folder: Path) -> None:
    async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        references = HttpReferences(f"http://127.0.0.1:{port}", folder, silence_s=0.1)
        with pytest.raises(Outage, match="IRIS_CRDS_URL"):
            await references.default_context()
        await references.close()


SHA256 = hashlib.sha256(b"").hexdigest()
ANSWERS = {
    "a page": b"<html></html>",
    "nothing": b"",
    "an object": b"{}",
    "no type": b"[]",
    "another type": b'[{"type": "dark", "name": "x.fits", "sha256": "%s", "size": 0}]',
    "a path": b'[{"type": "gain", "name": "../../x.fits", "sha256": "%s", "size": 0}]',
    "an absolute path": b'[{"type": "gain", "name": "/tmp/x.fits", "sha256": "%s", "size": 0}]',
    "a mapping": b'[{"type": "gain", "name": "tmt_0001.pmap", "sha256": "%s", "size": 0}]',
    "no checksum": b'[{"type": "gain", "name": "x.fits", "sha256": "../../..", "size": 0}]',
    "a checksum with more": b'[{"type": "gain", "name": "x.fits", "sha256": "%s\\n", "size": 0}]',
    "no size": b'[{"type": "gain", "name": "x.fits", "sha256": "%s", "size": -1}]',
}


class Answering:
    """A server that gives one answer to everything."""

    def __init__(self, status: int, body: bytes) -> None:
        self._status, self._body = status, body

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body", "body": self._body})


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_is_none_is_an_outage_and_no_path(tmp_path: Path, case: str) -> None:
    body = ANSWERS[case].replace(b"%s", SHA256.encode())
    before = set(tmp_path.iterdir())
    async with served(Answering(200, body)) as url:
        references = HttpReferences(url, tmp_path / "a" / "b" / "c")
        with pytest.raises(Outage, match="IRIS_CRDS_URL"):
            await gain_of(references)
        with pytest.raises(Outage, match="IRIS_CRDS_URL"):
            await references.default_context()
        await references.close()
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("status", [301, 401, 404, 500, 502])
async def test_another_server_at_that_address_is_an_outage(folder: Path, status: int) -> None:
    async with served(Answering(status, b"<html>Not here</html>")) as url:
        references = HttpReferences(url, folder)
        with pytest.raises(Outage, match=rf"IRIS_CRDS_URL\) answers {status}, which is not how crds_proxy answers"):
            await gain_of(references)
        await references.close()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8081", "ftp://crds", "http://", "/tmp/crds", "http://a:b"])
def test_an_address_that_is_none_is_refused_at_once(url: str, folder: Path) -> None:
    with pytest.raises(Fatal, match="IRIS_CRDS_URL"):
        HttpReferences(url, folder)


async def test_a_password_in_the_address_is_not_told(folder: Path) -> None:
    with reserved_port() as port:
        references = HttpReferences(f"http://iris:secret@127.0.0.1:{port}", folder)
        with pytest.raises(Outage) as raised:
            await references.default_context()
        assert "secret" not in str(raised.value)
        await references.close()


async def test_a_proxy_for_the_web_in_the_environment_is_left_out(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reserved_port() as nobody:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{nobody}")
        references = HttpReferences(url, folder)
        assert await references.default_context() == CONTEXT
        await references.close()


async def test_a_header_that_cannot_be_sent_is_refused(references: HttpReferences, line: Line) -> None:
    with pytest.raises(Fatal, match=str(MAX_QUESTION_BYTES)):
        await references.best_references(HEADER | {"HISTORY": "x" * MAX_QUESTION_BYTES}, TYPES, CONTEXT)
    assert line.requests == []
    with pytest.raises(Fatal, match="no question"):
        await references.best_references(HEADER | {"half a letter": "\ud800"}, TYPES, CONTEXT)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let files of this process have at most three bytes: a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


async def test_a_full_disk_is_an_outage_and_leaves_nothing(
    references: HttpReferences, folder: Path, full_disk: None
) -> None:
    with pytest.raises(Outage, match="cannot take the reference"):
        await gain_of(references)
    assert (visible(folder), parts(folder)) == ([], [])


async def test_a_folder_that_is_none_is_an_outage(references: HttpReferences, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(Outage, match="cannot take the reference") as raised:
        await gain_of(references)
    assert str(folder) in raised.value.message


async def test_a_process_that_hangs_within_a_download_does_not_keep_others_waiting(
    url: str, line: Line, folder: Path
) -> None:
    content = b"a reference"
    found = FoundReference(type="gain", name=GAIN, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    hang = asyncio.Event()

    async def hanging(found: FoundReference) -> AsyncGenerator[bytes, None]:
        hang.set()
        await asyncio.Event().wait()
        yield b""

    async def working(found: FoundReference) -> AsyncGenerator[bytes, None]:
        yield content

    first, second = ReferenceFiles(folder), ReferenceFiles(folder, wait_s=0.1)
    waiting = asyncio.create_task(first.fetch(found, hanging))
    await hang.wait()
    path = await second.fetch(found, working)
    assert path.read_bytes() == content
    await first.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (visible(folder), parts(folder)) == ([GAIN], [])
