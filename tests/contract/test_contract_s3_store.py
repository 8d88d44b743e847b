"""The S3 store keeps the store's contract on a real server, and some promises of its own."""

import asyncio
import contextlib
import hashlib
import io
import resource
import signal
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from minio import Minio
from pydantic import SecretStr
from structlog.testing import capture_logs

from irisdrs.shared.errors import CorruptObject, Fatal, IrisError, Outage, Retryable
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store import s3_bucket
from irisdrs.shared.store.port import FITS, JSON, ObjectRef
from irisdrs.shared.store.s3 import PROBE, S3Store, s3_store
from irisdrs.shared.store.s3_bucket import S3Bucket
from irisdrs.shared.testing.servers.swift import SwiftServer
from irisdrs.shared.testing.store_contract import KEY, StoreContract


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
async def store(s3_settings: HostSettings, scratch: Path) -> AsyncIterator[S3Store]:
    async with opened(s3_settings, scratch) as store:
        yield store


@contextlib.asynccontextmanager
async def opened(settings: HostSettings, scratch: Path) -> AsyncIterator[S3Store]:
    store = s3_store(settings, scratch)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def bucket(s3_settings: HostSettings) -> str:
    """Name of this test's bucket."""
    return str(s3_settings.store_url).rpartition("/")[2]


@pytest.fixture
def client(s3_settings: HostSettings) -> Minio:
    """What somebody else might use on the same bucket."""
    assert s3_settings.store_access_key and s3_settings.store_secret_key
    host = str(s3_settings.store_url).split("/")[2]
    keys = s3_settings.store_access_key.get_secret_value(), s3_settings.store_secret_key.get_secret_value()
    return Minio(host, *keys, secure=str(s3_settings.store_url).startswith("s3+https"), region="us-east-1")


class TestS3Store(StoreContract):
    pass


async def test_everything_of_an_object_is_with_the_object(
    store: S3Store, s3_settings: HostSettings, scratch: Path
) -> None:
    put = await store.put(KEY, b"{}", media_type=JSON, metadata={"reads-used": "8"})
    async with opened(s3_settings, scratch) as another:
        assert await another.head(KEY) == put.stored


async def test_of_many_writers_of_large_objects_one_wins(store: S3Store) -> None:
    contents = [bytes([n]) * 3_000_000 for n in range(8)]
    puts = await asyncio.gather(*(store.put(KEY, content) for content in contents))
    assert sum(put.created for put in puts) == 1
    winner = next(n for n, put in enumerate(puts) if put.created)
    assert all(put.stored == puts[winner].stored for put in puts)
    assert await store.get(puts[winner].stored.ref) == contents[winner]


@pytest.mark.parametrize("size", [6, 2_000_000])
async def test_other_bytes_under_the_same_key_raise_an_alarm(store: S3Store, size: int) -> None:
    await store.put(KEY, b"x" * size)
    with capture_logs() as logs:
        await store.put(KEY, b"x" * size)
    assert logs == []
    with capture_logs() as logs:
        assert not (await store.put(KEY, b"y" * size)).created
    assert [(log["log_level"], log["key"]) for log in logs] == [("error", KEY)]


@pytest.mark.parametrize("content", [b"pix", b"PIXELS"])
async def test_an_object_that_somebody_overwrote_is_refused(
    store: S3Store, client: Minio, bucket: str, scratch: Path, content: bytes
) -> None:
    ref = (await store.put(KEY, b"pixels")).stored.ref
    client.put_object(bucket, KEY, io.BytesIO(content), len(content), metadata={"sha256": ref.sha256})
    with pytest.raises(CorruptObject, match="announced"):
        await store.get(ref)
    with pytest.raises(CorruptObject, match="announced"):
        async with store.local(ref):
            pass
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", ["colour", "sha256"])
async def test_an_object_put_by_hand_is_looked_at(store: S3Store, client: Minio, bucket: str, name: str) -> None:
    client.put_object(bucket, KEY, io.BytesIO(b"pixels"), 6, metadata={name: "blue"})
    stored = await store.head(KEY)
    assert stored is not None and stored.metadata == {}
    assert stored.ref == ObjectRef(key=KEY, sha256=hashlib.sha256(b"pixels").hexdigest(), size=6, media_type=FITS)
    assert (await store.put(KEY, b"other")).stored == stored
    assert await store.get(stored.ref) == b"pixels"


async def test_names_that_are_no_keys_are_not_listed(store: S3Store, client: Minio, bucket: str) -> None:
    for name in (".hidden", "a/.hidden", "a/b c", "a/b"):
        client.put_object(bucket, name, io.BytesIO(b""), 0)
    assert await store.keys("") == ["a/b"]
    assert PROBE in {entry.object_name for entry in client.list_objects(bucket, recursive=True)}


async def test_lists_all_pages(store: S3Store) -> None:
    keys = [f"a/{n:03d}.json" for n in range(120)]  # the private server gives 50 at a time
    await asyncio.gather(*(store.put(key, b"") for key in reversed(keys)))
    assert await store.keys("a/") == keys


async def test_a_local_copy_is_gone_when_its_last_user_is(store: S3Store, scratch: Path) -> None:
    ref = (await store.put(KEY, b"pixels")).stored.ref
    async with store.local(ref) as first:
        async with store.local(ref) as second:
            assert second == first
        assert [path for path in scratch.rglob("*") if path.is_file()] == [first]
    assert list(scratch.iterdir()) == []


async def test_who_gives_up_on_a_local_copy_does_not_take_it_from_others(store: S3Store, scratch: Path) -> None:
    ref = (await store.put(KEY, b"x" * 5_000_000)).stored.ref

    async def read() -> int:
        async with store.local(ref) as path:
            return len(path.read_bytes())

    hasty, patient = asyncio.create_task(read()), asyncio.create_task(read())
    await asyncio.sleep(0)
    hasty.cancel()
    assert await patient == 5_000_000
    assert hasty.cancelled()
    assert list(scratch.iterdir()) == []


async def test_a_full_scratch_disk_is_an_outage(store: S3Store, scratch: Path) -> None:
    ref = (await store.put(KEY, b"x" * 100_000)).stored.ref
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)  # a file size limit fails a write as a full disk does
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, hard))
    try:
        with pytest.raises(Outage, match="is full"):
            async with store.local(ref):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(scratch.iterdir()) == []


async def test_a_file_is_never_in_memory_as_a_whole(store: S3Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(64_000_000)
    tracemalloc.start()
    ref = (await store.put_file(KEY, source)).stored.ref
    async with store.local(ref) as path:
        assert path.stat().st_size == 64_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16_000_000


async def test_bytes_that_change_on_their_way_are_refused_by_the_server(store: S3Store) -> None:
    announced = hashlib.sha256(b"PIXELS").hexdigest()
    with pytest.raises(Retryable, match=r"SHA256|Digest"):
        store._bucket.put_if_absent(KEY, io.BytesIO(b"pixels"), 6, announced, FITS, {})
    assert await store.head(KEY) is None


class TestServerThatStops:
    """The server is away in the middle of a night."""

    async def test_is_an_outage_until_it_is_back(
        self, swift: SwiftServer, swift_settings: HostSettings, scratch: Path
    ) -> None:
        async with opened(swift_settings, scratch) as store:
            put = await store.put(KEY, b"pixels", metadata={"reads-used": "8"})
            await asyncio.to_thread(swift.stop)
            try:
                for call in (
                    store.put("a", b""), store.put_file("a", Path(__file__)), store.get(put.stored.ref),
                    store.head(KEY), store.keys("")
                ):  # fmt: skip
                    with pytest.raises(Outage, match="Start or mend the server"):
                        await call
                with pytest.raises(Outage, match="Start or mend the server"):
                    async with store.local(put.stored.ref):
                        pass
                with pytest.raises(Outage):
                    await s3_store(swift_settings, scratch).open()
            finally:
                await asyncio.to_thread(swift.start)
            assert await store.head(KEY) == put.stored
            assert await store.get(put.stored.ref) == b"pixels"
            assert await store.keys("") == [KEY]
            assert (await store.put("a", b"")).created

    async def test_may_be_absent_when_a_host_starts(
        self, swift: SwiftServer, swift_settings: HostSettings, scratch: Path
    ) -> None:
        await asyncio.to_thread(swift.stop)
        store = s3_store(swift_settings, scratch)
        try:
            with pytest.raises(Outage):
                await store.open()
        finally:
            await asyncio.to_thread(swift.start)
        await store.open()
        assert (await store.put(KEY, b"pixels")).created
        await store.close()


@pytest.mark.parametrize("wrong", ["store_access_key", "store_secret_key"])
async def test_wrong_keys_say_what_to_set(s3_settings: HostSettings, scratch: Path, wrong: str) -> None:
    store = s3_store(s3_settings.model_copy(update={wrong: SecretStr("guess")}), scratch)
    with pytest.raises(Fatal, match="Correct IRIS_STORE_ACCESS_KEY and IRIS_STORE_SECRET_KEY"):
        await store.open()
    for call in (store.put(KEY, b""), store.head(KEY), store.keys("")):
        with pytest.raises(Fatal, match="Correct IRIS_STORE_ACCESS_KEY and IRIS_STORE_SECRET_KEY"):
            await call


async def test_a_missing_bucket_is_made_once(
    s3_settings: HostSettings, scratch: Path, client: Minio, bucket: str
) -> None:
    assert not client.bucket_exists(bucket)
    stores = [s3_store(s3_settings, scratch) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    assert client.bucket_exists(bucket)


async def test_a_bucket_that_is_gone_is_named(s3_settings: HostSettings, scratch: Path, bucket: str) -> None:
    store = s3_store(s3_settings, scratch)  # not opened: the bucket was never made
    for call in (store.put(KEY, b""), store.keys("")):
        with pytest.raises(Fatal, match=f"Make the bucket {bucket}"):
            await call


@pytest.mark.parametrize(
    "url",
    [
        "", "bucket", "http://host/bucket", "s3://bucket", "s3+http:///bucket", "s3+http://host", "s3+http://host/",
        "s3+http://host:port/bucket", "s3+http://host/a/b", "s3+http://host/Bucket", "s3+http://host/bu",
        "s3+http://host/bucket?a=b", "s3+http://key:secret@host/bucket",
    ],
)  # fmt: skip
def test_a_malformed_url_is_refused(url: str, scratch: Path) -> None:
    settings = HostSettings(store_url=url, store_access_key=SecretStr("a"), store_secret_key=SecretStr("b"))
    with pytest.raises(Fatal, match="URL") as refused:
        s3_store(settings, scratch)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("variable", ["store_access_key", "store_secret_key"])
def test_a_missing_key_is_named(variable: str, scratch: Path) -> None:
    settings = HostSettings(
        store_url="s3+https://host/bucket", store_access_key=SecretStr("a"), store_secret_key=SecretStr("b")
    ).model_copy(update={variable: None})
    with pytest.raises(Fatal, match=f"IRIS_{variable.upper()} is not set"):
        s3_store(settings, scratch)


class Answer(BaseHTTPRequestHandler):
    """A server that gives the same answer to everything, and then hangs up."""

    status = 200
    code = ""
    length: int | None = None

    def answer(self) -> None:
        left = int(self.headers.get("Content-Length", 0))
        self.rfile.read(left)
        body = f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode() if self.code else b"pix"
        self.send_response(self.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(self.length or len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    do_GET = do_PUT = do_HEAD = answer

    def log_message(self, *_: object) -> None:
        pass


class HastyRefusal(Answer):
    """A server that has the object, and refuses another one without reading it, if need be by hanging up."""

    says_so = True

    def do_PUT(self) -> None:
        if self.says_so:
            self.send_response(412)
            self.send_header("Content-Length", "0")
            self.end_headers()
        self.close_connection = True

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.send_header("Content-Type", FITS)
        self.send_header("x-amz-meta-sha256", hashlib.sha256(b"pixels").hexdigest())
        self.end_headers()


@contextlib.contextmanager
def answering(scratch: Path, kind: type[Answer] = Answer, **answer: object) -> Iterator[S3Store]:
    """A store on a server of that one answer."""
    handler = type("OneAnswer", (kind,), answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            bucket = S3Bucket(f"127.0.0.1:{server.server_address[1]}", "bucket", "key", "secret", secure=False)
            yield S3Store(bucket, scratch)
        finally:
            server.shutdown()
            thread.join()


async def test_a_server_that_overwrites_is_refused(scratch: Path) -> None:
    with answering(scratch, status=200) as store, pytest.raises(Fatal, match="does not heed If-None-Match"):
        await store.open()


@pytest.mark.parametrize(
    ("status", "code", "error", "remedy"),
    [
        (503, "SlowDown", Outage, "Wait for the server"),
        (500, "InternalError", Outage, "Wait for the server"),
        (502, "", Outage, "Wait for the server"),
        (409, "ConditionalRequestConflict", Outage, "Wait for the server"),
        (403, "RequestTimeTooSkewed", Outage, "Wait for the server"),
        (507, "XMinioStorageFull", Outage, "Free space in the store"),
        (403, "QuotaExceeded", Outage, "Free space in the store"),
        (501, "NotImplemented", Fatal, "conditional writes"),
        (403, "InvalidAccessKeyId", Fatal, "IRIS_STORE_ACCESS_KEY"),
        (404, "NoSuchBucket", Fatal, "Make the bucket bucket"),
        (400, "InvalidArgument", Retryable, "log"),
    ],
)
async def test_what_a_server_answers_is_explained(
    scratch: Path, status: int, code: str, error: type[IrisError], remedy: str
) -> None:
    with answering(scratch, status=status, code=code) as store, pytest.raises(IrisError, match=remedy) as raised:
        await store.put(KEY, b"pixels")
    assert type(raised.value) is error
    assert raised.value.message.startswith("The store s3+http://127.0.0.1:")


async def test_an_answer_that_is_cut_off_is_an_outage(scratch: Path) -> None:
    ref = ObjectRef(key=KEY, sha256="0" * 64, size=6)
    with answering(scratch, length=6) as store:
        with pytest.raises(Outage):
            await store.get(ref)
        with pytest.raises(Outage):
            async with store.local(ref):
                pass
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("says_so", [True, False])
async def test_what_is_there_is_adopted_though_the_server_hangs_up_on_the_body(scratch: Path, says_so: bool) -> None:
    with answering(scratch, HastyRefusal, says_so=says_so) as store:
        put = await store.put(KEY, b"x" * 20_000_000)
    assert not put.created
    assert put.stored.ref.sha256 == hashlib.sha256(b"pixels").hexdigest()


async def test_a_silent_server_is_asked_once_and_is_an_outage(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_bucket, "READ_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        bucket = S3Bucket(f"127.0.0.1:{server.getsockname()[1]}", "bucket", "key", "secret", secure=False)
        with pytest.raises(Outage, match="Read timed out"):
            await S3Store(bucket, scratch).head(KEY)
        server.accept()[0].close()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody else has called
            server.accept()
