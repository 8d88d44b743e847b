"""The methods of the CRDS protocol, as the official client (14.x, `crds/client/api.py`) calls them.

Parameters have the client's names and order; what it may leave out has a default here.
"""

import asyncio
import fnmatch
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

import crds
from pydantic import ConfigDict, Field, validate_call

from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.protocol.context_names import specified
from irisdrs.crds_proxy.protocol.file_records import FileRecords, Record
from irisdrs.shared.errors import MissingReference

#: Most reference types of one question: ten times as many as there are.
MAX_TYPES = 250

_Name = Annotated[str, Field(max_length=200)]
_Text = Annotated[str, Field(max_length=20_000)]
_Observatory = Literal["tmt"] | None

_checked = validate_call(config=ConfigDict(strict=True))


class Methods:
    """Every method is one call of the protocol; the answer is what JSON can carry.

    Parameters
    ----------
    references : LocalReferences
    """

    def __init__(self, references: LocalReferences) -> None:
        self._references = references
        self._records: FileRecords | None = None

    @_checked
    async def get_server_info(self) -> Mapping[str, object]:
        """What every client asks first. Addresses are added by who knows the server's own."""
        records, stale, asked_at = await self._now()
        context = records.catalogue.context
        return {
            "observatory": "tmt",
            **dict.fromkeys(("latest_context", "operational_context", "edit_context", "versions_context"), context),
            "bad_files": "",
            "bad_files_list": [],
            "force_remote_mode": False,
            "mappings": records.mappings,
            "crds_version": {"str": crds.__version__},
            "max_headers_per_rpc": 500,
            "last_synced": f"{asked_at:%Y-%m-%d %H:%M:%S.%f}",
            "stale": stale,
            "context_history": records.history,
            "download_metadata": await asyncio.to_thread(lambda: records.download_metadata),
        }

    @_checked
    async def get_default_context(self, observatory: _Observatory = None, state: _Name | None = None) -> str:
        return await self._references.default_context()

    @_checked
    async def get_context_by_date(self, date: _Name, observatory: _Observatory = None) -> str:
        return await self._mapping(date)

    @_checked
    async def get_context_history(self, observatory: _Observatory = None) -> Sequence[tuple[str, str, str]]:
        return (await self._now())[0].history

    @_checked
    async def get_mapping_names(self, context: _Name) -> Sequence[str]:
        return await self._references.mapping_names(await self._mapping(context))

    @_checked
    async def get_reference_names(self, context: _Name) -> Sequence[str]:
        return await self._references.reference_names(await self._mapping(context))

    @_checked
    async def get_required_parkeys(self, context: _Name) -> Mapping[str, list[str]]:
        return await self._references.required_keys(await self._mapping(context))

    @_checked
    async def get_best_references(
        self,
        context: _Name,
        header: dict[_Name, _Text | int | float | bool | None],
        reftypes: Annotated[list[_Name], Field(max_length=MAX_TYPES)] | None = None,
    ) -> Mapping[str, str]:
        name = context if context.endswith(".pmap") else await self._mapping(context)
        return await self._references.choose({key: str(value) for key, value in header.items()}, reftypes, name)

    @_checked
    async def list_mappings(self, observatory: _Observatory = None, glob_pattern: _Name = "*") -> Sequence[str]:
        return await asyncio.to_thread(fnmatch.filter, (await self._now())[0].mappings, glob_pattern)

    @_checked
    async def list_references(self, observatory: _Observatory = None, glob_pattern: _Name = "*") -> Sequence[str]:
        return await asyncio.to_thread(fnmatch.filter, (await self._now())[0].references, glob_pattern)

    @_checked
    async def get_file_info(self, pipeline_context: _Name | None, filename: _Name) -> Record:
        record = (await self._now())[0].records.get(filename)
        if record is None:
            raise MissingReference(f"Nothing of the name {filename!r} is published.", remedy="Look for its spelling.")
        return record

    @_checked
    async def get_file_info_map(
        self, observatory: _Observatory = None, files: list[_Name] | None = None, fields: list[_Name] | None = None
    ) -> Mapping[str, Record | str]:
        """What is published of each file; ``NOT FOUND`` for those of which nothing is."""
        records = (await self._now())[0].records
        found: dict[str, Record | str] = {}
        for name in records if files is None else files:
            record = records.get(name)
            if record is None:
                found[name] = "NOT FOUND"
            else:
                found[name] = record if fields is None else {one: record[one] for one in fields if one in record}
        return found

    @_checked
    async def get_sqlite_db(self, observatory: _Observatory = None) -> str:
        records, _, _ = await self._now()
        return await asyncio.to_thread(lambda: records.database)

    async def _now(self) -> tuple[FileRecords, bool, datetime]:
        """Records of what is published now, whether that is stale, and when it was asked for."""
        catalogue = await self._references.holdings.catalogue()
        if self._records is None or self._records.catalogue.changes != catalogue.changes:
            self._records = await asyncio.to_thread(FileRecords, catalogue)
        return self._records, catalogue.stale, catalogue.asked_at

    async def _mapping(self, text: str) -> str:
        """The mapping that a client means."""
        one = specified(text, await self._references.holdings.catalogue())
        if not one.instrument:
            return one.name
        end = ".rmap" if one.kind else ".imap"
        start = f"tmt_{one.instrument}_{one.kind}".removesuffix("_")
        for name in await self._references.mapping_names(one.name):
            if name.endswith(end) and name.removesuffix(end).rstrip("0123456789").removesuffix("_") == start:
                return name
        raise MissingReference(f"{one.name} has no mapping for {text!r}.", remedy="Is the type spelled right?")


#: Every method that can be called.
METHODS = tuple(name for name in vars(Methods) if name.startswith(("get_", "list_")))
