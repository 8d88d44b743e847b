"""The migrations, and opening a catalogue."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from irisdrs.archive.catalogue.arrival import Description
from irisdrs.archive.catalogue.engine import (
    FILE_NAME,
    MIGRATIONS,
    Catalogue,
    CatalogueUnusable,
    open_catalogue,
    open_existing,
    sqlite_url,
    upgrade,
)
from irisdrs.archive.catalogue.query import find
from irisdrs.archive.catalogue.selection import ProductFilter
from irisdrs.archive.catalogue.tables import Header, Table
from irisdrs.shared.errors import Outage

if TYPE_CHECKING:
    from tests.archive.conftest import Builder, Put


def test_migrations_create_exactly_the_schema(catalogue: Catalogue) -> None:
    with catalogue.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []


def test_connections_enforce_foreign_keys_wal_and_waiting(catalogue: Catalogue) -> None:
    with catalogue.engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("foreign_keys", "journal_mode")]
        assert settings == [1, "wal"]
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 20_000
    with pytest.raises(IntegrityError), catalogue.write() as session:
        session.add(Header(artifact_id=99, hdus=[]))


def test_two_processes_may_create_the_catalogue_at_once(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / FILE_NAME)
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(open_catalogue, [url] * 4))
    for catalogue in opened:
        catalogue.close()
    open_existing(tmp_path / FILE_NAME).close()


def test_a_catalogue_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    open_catalogue(sqlite_url(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    openings: list[Callable[[], Catalogue]] = [lambda: open_catalogue(sqlite_url(path)), lambda: open_existing(path)]
    for opening in openings:
        with pytest.raises(CatalogueUnusable, match="9999"):
            opening()


def test_products_of_before_the_sampling_mode_was_kept_get_it_from_their_headers(
    catalogue: Catalogue, put: "Put", build: "Builder"
) -> None:
    silent = replace(build.raw(4), description=Description(({"extname": "", "cards": {}},)))
    put(catalogue, build.read(1), silent)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with catalogue.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
    upgrade(catalogue.engine)
    with catalogue.read() as session:
        found = {row.kind: row.sampling_mode for row in find(session, ProductFilter(), limit=9).products}
    assert found == {"read": "UTR", "raw": None}


def test_what_is_no_catalogue_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with pytest.raises(CatalogueUnusable, match="no catalogue at"):
        open_existing(path)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(CatalogueUnusable, match="no catalogue that can be read"):
        open_existing(path)
    with pytest.raises(Outage, match="does not answer"):
        open_catalogue(sqlite_url(path))


def test_reading_only_cannot_write(catalogue: Catalogue, put: "Put", build: "Builder") -> None:
    put(catalogue, build.read(1))
    path = str(catalogue.engine.url.database)
    reader = open_existing(Path(path))
    with pytest.raises(Outage, match="readonly"), reader.write() as session:
        session.add(Header(artifact_id=1, hdus=[]))
    reader.close()
