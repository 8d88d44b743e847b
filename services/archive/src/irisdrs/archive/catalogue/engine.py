"""Opening a catalogue: SQLite in WAL mode by default, brought to the newest schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from irisdrs.shared.errors import IrisError, Outage

FILE_NAME = "catalogue.sqlite"

#: How long a writer waits for another process's transaction, milliseconds: many times the longest transaction (a few
#: milliseconds), yet shorter than a handler's hard timeout.
BUSY_TIMEOUT_MS = 20_000

MIGRATIONS = Path(__file__).parent / "migrations"

_WRITES = "iris_writes"


class CatalogueUnusable(IrisError):
    """There is no catalogue here, or it is of another version."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An open catalogue."""

    engine: Engine

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that writes; committed at the end, rolled back when it raises.

        Raises
        ------
        Outage
            If the database is locked for too long, full, unreachable or damaged.
        """
        writing = self.engine.execution_options(**{_WRITES: True})
        with _outages(self.engine), Session(writing) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that reads a consistent state. Raises `Outage` as `write`."""
        with _outages(self.engine), Session(self.engine) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def _outages(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        # Exactly DatabaseError is what SQLite says of a damaged file; other subclasses are mistakes of ours.
        if type(error) is DatabaseError or isinstance(error, OperationalError):
            raise Outage(
                f"The catalogue {engine.url.render_as_string()} does not answer: {error.orig}.",
                remedy="Look at the disk and at the processes that use the catalogue.",
            ) from error
        raise


def sqlite_url(path: Path) -> str:
    """Database URL of a catalogue file."""
    return f"sqlite:///{path.absolute()}"


def open_catalogue(url: str) -> Catalogue:
    """Open a catalogue for writing; create it, or bring it to the newest schema, where that is needed.

    Parameters
    ----------
    url : str
        SQLAlchemy database URL.

    Raises
    ------
    Outage
        If the database cannot be opened.
    CatalogueUnusable
        If its schema is newer than this software.
    """
    engine = _engine(url)
    with _outages(engine):
        upgrade(engine)
    return Catalogue(engine)


def open_existing(path: Path) -> Catalogue:
    """Open a catalogue file for reading only.

    Raises
    ------
    CatalogueUnusable
        If there is no catalogue, or its schema is not this software's.
    """
    if not path.is_file():
        raise CatalogueUnusable(
            f"There is no catalogue at {path}.",
            remedy="Name the data directory with --data, or a running archive with --url.",
        )
    engine = _engine(f"sqlite:///file:{path.absolute()}?mode=ro&uri=true", read_only=True)
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except DatabaseError as error:
        raise CatalogueUnusable(f"{path} is no catalogue that can be read: {error.orig}.") from error
    if found != newest_revision():
        raise CatalogueUnusable(
            f"The catalogue {path} has schema {found}, this software reads {newest_revision()}.",
            remedy="Start the archive of this version once: it brings the catalogue up to date.",
        )
    return Catalogue(engine)


def newest_revision() -> str:
    """Name of the schema that this software uses."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise CatalogueUnusable(f"There are no migrations in {MIGRATIONS}.", remedy="Install the archive again.")
    return head


def upgrade(engine: Engine) -> None:
    """Bring a database to the newest schema in one transaction; two processes may do so at once."""
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in known:
            raise CatalogueUnusable(
                f"The catalogue has schema {found}, which this software does not know.",
                remedy="Install the version that wrote it, or a newer one.",
            )
        if found != newest_revision():
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _engine(url: str, *, read_only: bool = False) -> Engine:
    if not url.startswith("sqlite"):
        return sqlalchemy.create_engine(url, pool_pre_ping=True)
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # sqlite3 would begin transactions by itself, too late for reads and never for DDL: `begin` does it instead.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        if not read_only:
            cursor.execute("PRAGMA journal_mode = WAL")
            # An event is acknowledged after its commit, so a commit must survive a power failure.
            cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that will write takes the lock at once: changing over later fails without waiting.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
