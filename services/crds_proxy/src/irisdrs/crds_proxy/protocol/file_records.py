"""What the server tells of every published file: facts that the client compares, and those that people look up."""

import base64
import gzip
import json
import sqlite3
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from irisdrs.crds_proxy.holdings import Catalogue, Change, Published
from irisdrs.shared.crds.names import is_mapping_name
from irisdrs.shared.crds.reference_types import reference_types

#: Facts of one file, all of them text, as the client expects them.
Record = Mapping[str, str]

_MOMENT = "%Y-%m-%d %H:%M:%S.%f"


class FileRecords:
    """Facts of the files of one catalogue; what few ask for is computed when it is asked for, once.

    Parameters
    ----------
    catalogue : Catalogue

    Attributes
    ----------
    records : mapping of str to Record
        By file name.
    mappings, references : list of str
        Their names.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        published: dict[str, Change] = {}
        for change in catalogue.changes:
            for name in change.files:
                published.setdefault(name, change)
        self.records: Mapping[str, Record] = {
            name: _record(name, facts, published.get(name)) for name, facts in sorted(catalogue.files.items())
        }
        self.mappings = [name for name, one in self.records.items() if one["type"] == "mapping"]
        self.references = [name for name, one in self.records.items() if one["type"] == "reference"]

    @cached_property
    def history(self) -> list[tuple[str, str, str]]:
        """When each context came into force (UTC), its name, and why; oldest first."""
        return [(change.at.strftime(_MOMENT), change.context, change.reason) for change in self.catalogue.changes]

    @cached_property
    def download_metadata(self) -> Mapping[str, str]:
        """Size and SHA-1 of every file, packed as the client unpacks them (`crds.client.proxy.crds_decode`)."""
        facts = {name: {"size": one["size"], "sha1sum": one["sha1sum"]} for name, one in self.records.items()}
        packed = gzip.compress(json.dumps(facts).encode(), mtime=0)
        return {"crds_encoded": "1.0", "crds_payload": base64.b64encode(packed).decode()}

    @cached_property
    def database(self) -> str:
        """The records and the history as a SQLite file, packed as the client unpacks it."""
        connection = sqlite3.connect(":memory:")
        try:
            _fill(connection, self.records, self.history)
            return base64.b64encode(zlib.compress(connection.serialize())).decode()
        finally:
            connection.close()


def _record(name: str, facts: Published, change: Change | None) -> Record:
    parts = Path(name).stem.split("_")
    at = change.at.strftime(_MOMENT) if change else ""
    return {
        "name": name,
        "type": "mapping" if is_mapping_name(name) else "reference",
        "observatory": "tmt",
        "instrument": "iris" if parts[1:2] == ["iris"] else "",
        "filekind": next((part for part in parts[2:3] if part in reference_types()), ""),
        "size": str(facts.size),
        "sha1sum": facts.sha1sum,
        "sha256": facts.sha256,
        "state": "archived",
        "rejected": "false",
        "blacklisted": "false",
        "delivery_date": at,
        "activation_date": at,
        "deliverer_user": change.by if change else "",
        "description": change.reason if change else "",
    }


def _fill(connection: sqlite3.Connection, records: Mapping[str, Record], history: list[tuple[str, str, str]]) -> None:
    """Tables as the client's ``crds sql`` describes them, and a view of each kind of file."""
    columns = list(next(iter(records.values()), {"name": ""}))
    connection.execute(f"create table crds_tmt_catalog (id integer primary key, {', '.join(columns)})")
    connection.executemany(
        f"insert into crds_tmt_catalog ({', '.join(columns)}) values ({', '.join('?' * len(columns))})",
        [tuple(record.values()) for record in records.values()],
    )
    connection.execute(
        "create table crds_tmt_context_history (id integer primary key, start_date, context, description)"
    )
    connection.executemany(
        "insert into crds_tmt_context_history (start_date, context, description) values (?, ?, ?)", history
    )
    if records:
        for kind in ("mapping", "reference"):
            connection.execute(f"create view crds_tmt_{kind}s as select * from crds_tmt_catalog where type = '{kind}'")
    connection.commit()
