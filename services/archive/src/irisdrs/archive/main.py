"""Composition of the archive: settings, catalogue, handlers, web application."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from irisdrs.archive.api.application import application
from irisdrs.archive.catalogue.engine import FILE_NAME, open_catalogue, sqlite_url
from irisdrs.archive.handlers import Ingest
from irisdrs.archive.reconciliation.ledger import Ledger
from irisdrs.archive.reconciliation.reconciler import Reconciler
from irisdrs.archive.settings import ArchiveSettings
from irisdrs.shared.bus.topology import ARCHIVE
from irisdrs.shared.service import Platform, Service


def compose(platform: Platform) -> Service:
    """Open the catalogue and build the service.

    Raises
    ------
    Outage
        If the catalogue cannot be opened.
    CatalogueUnusable
        If it was written by a newer version.
    """
    settings = ArchiveSettings()
    catalogue = open_catalogue(settings.catalogue_url or sqlite_url(platform.data_dir / FILE_NAME))
    writer = ThreadPoolExecutor(1, thread_name_prefix="iris-catalogue")

    async def close() -> None:
        # The web application outlives a service that is composed anew; closing only drops idle connections.
        await asyncio.to_thread(writer.shutdown)
        catalogue.close()

    ingest = Ingest(platform.store, catalogue, writer, platform.threads)
    reconciler = Reconciler(
        Ledger(platform.store, catalogue),
        platform.held,
        first_s=settings.reconcile_first_s,
        every_s=settings.reconcile_every_s,
        all_every_s=settings.reconcile_all_every_s,
        confirm_s=settings.reconcile_confirm_s,
    )
    return Service(
        name="archive",
        handlers={ARCHIVE: ingest.handlers()},
        web=application(catalogue, platform.store, platform.held),
        close=close,
        rounds=reconciler.rounds(),
        collectors=reconciler.figures.collectors(),
    )
