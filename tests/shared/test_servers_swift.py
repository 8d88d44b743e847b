"""The private S3 server keeps its data, and says what is missing."""

import io
from pathlib import Path

import pytest
from minio import Minio

from irisdrs.shared.testing.servers.process import ServerMissing
from irisdrs.shared.testing.servers.swift import VENV_VARIABLE, SwiftServer


def test_a_missing_server_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VENV_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ServerMissing, match="make swift"):
        SwiftServer(tmp_path)


def test_another_server_takes_up_the_data(swift: SwiftServer) -> None:
    first = _client(swift)
    first.make_bucket("kept")
    first.put_object("kept", "a/b", io.BytesIO(b"pixels"), 6)
    swift.stop()
    with SwiftServer(swift.folder) as another:
        assert another.access_key != swift.access_key
        assert [entry.object_name for entry in _client(another).list_objects("kept", recursive=True)] == ["a/b"]
    swift.start()
    assert first.stat_object("kept", "a/b").size == 6


def _client(server: SwiftServer) -> Minio:
    return Minio(server.url.partition("://")[2], server.access_key, server.secret_key, secure=False, region="us-east-1")
