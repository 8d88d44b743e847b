"""The folder that detectors move reads into: a read of the plan is sent, all else is kept and explained."""

import asyncio
import gzip
import io
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from irisdrs.shared.data.fits import encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.incoming import Incoming
from irisdrs.shared.edge.progress import survey
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import Event, ExposureEvent, ReadFailed, ReadWritten
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.small_observation import header_of, pixels_of, small_plan

PLENTY = 100_000_000
SOON_S = 30.0
PLAN = small_plan(exposures=2, reads=2, detectors=(Detector.IMG1, Detector.IFS))
HEADERS = [header_of(PLAN, exposure, read) for exposure in PLAN.exposure_ids() for read in (1, 2)]

#: astropy warns of damage on its way to the error that the tests ask for.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")


def packed(header: ReadHeader) -> bytes:
    return encode_read(pixels_of(header), header)


def plain(header: ReadHeader, *, extension: bool = False, checksum: bool = False) -> bytes:
    """A read as a detector may write it."""
    primary = fits.PrimaryHDU(None if extension else pixels_of(header))
    primary.header.extend(header.cards())
    hdus = [primary, fits.ImageHDU(pixels_of(header))] if extension else [primary]
    out = io.BytesIO()
    fits.HDUList(hdus).writeto(out, checksum=checksum)
    return out.getvalue()


def in_extension(header: ReadHeader) -> bytes:
    return plain(header, extension=True, checksum=True)


def move_in(folder: Path, name: str, data: bytes) -> None:
    """Write beside, then rename, as a detector does."""
    (folder / f".{name}.part").write_bytes(data)
    (folder / f".{name}.part").rename(folder / name)


class Site:
    """A folder for incoming reads, a store, and what was told."""

    def __init__(self, home: Path) -> None:
        self.folder, self.home = home / "incoming", home
        self.folder.mkdir()
        self.store = DirectoryStore(home / "store")
        self.told: list[Event] = []

    @asynccontextmanager
    async def taking(self, plan: ObservationPlan = PLAN) -> AsyncIterator[asyncio.Task[None]]:
        """A process that takes reads, until the context is left."""
        spool = Spool(self.home / "spool", PLENTY)
        async with Edge(plan, self.store, self.tell, spool) as edge:
            progress = await survey(plan, self.store, spool.keys())

            async def work() -> None:
                await edge.meanwhile(Incoming(self.folder, edge, progress, threads=2).take_all())
                await edge.drained()

            task = asyncio.create_task(work())
            try:
                async with asyncio.timeout(SOON_S):
                    yield task
            finally:
                task.cancel()
                await asyncio.wait({task})

    async def tell(self, events: Sequence[Event]) -> None:
        self.told.extend(events)

    async def until_told(self, count: int) -> None:
        while len(self.told) < count:
            await asyncio.sleep(0.005)

    async def until_sent(self) -> None:
        """Wait until nothing is left in the spool: a process that dies before tells its oldest entry again."""
        while list((self.home / "spool").glob("*.json")):
            await asyncio.sleep(0.005)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.told if isinstance(event, kind)]

    def rejected(self) -> dict[str, str]:
        """Reasons of rejected files."""
        folder = self.folder / "rejected"
        names = [path.name for path in folder.glob("*.fits")] if folder.exists() else []
        return {name: (folder / f"{name}.txt").read_text() for name in sorted(names)}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("written", [packed, plain, in_extension])
async def test_all_reads_of_a_plan_make_an_observation(site: Site, written: Callable[[ReadHeader], bytes]) -> None:
    for number, header in enumerate(HEADERS):
        move_in(site.folder, f"{number}.fits", written(header))
    async with site.taking() as task:
        await task
    names = [type(event).__name__ for event in site.told]
    exposure = ["ExposureStarted", "ReadWritten", "ReadWritten", "ExposureEnded"]
    assert names == ["ObservationStarted", *exposure * 4, "ObservationEnded"]
    assert [(e.exposure_id, e.read) for e in site.of(ReadWritten) if isinstance(e, ReadWritten)] == [
        (header.exposure_id, header.read) for header in HEADERS
    ]
    for event, header in zip(site.of(ReadWritten), HEADERS, strict=True):
        assert event.announces is not None
        assert await site.store.get(event.announces) == packed(header)
    assert list(site.folder.iterdir()) == []
    assert not (site.home / "spool").exists()


async def test_reads_are_told_in_the_order_in_which_they_were_written(site: Site) -> None:
    for number, header in enumerate(HEADERS):
        move_in(site.folder, f"{99 - number}.fits", packed(header))
        os.utime(site.folder / f"{99 - number}.fits", ns=(number, number))
    async with site.taking() as task:
        await task
    assert [e.read for e in site.of(ReadWritten) if isinstance(e, ReadWritten)] == [header.read for header in HEADERS]


async def test_unfinished_files_and_folders_are_left_alone(site: Site) -> None:
    others = (".hidden.fits", "read.fits.part", "notes.txt")
    for name in others:
        (site.folder / name).write_bytes(packed(HEADERS[0]))
    (site.folder / "folder.fits").mkdir()
    for number, header in enumerate(HEADERS):
        move_in(site.folder, f"{number}.fits", packed(header))
    async with site.taking() as task:
        await task
    assert sorted(path.name for path in site.folder.iterdir()) == sorted([*others, "folder.fits"])
    assert len(site.of(ReadWritten)) == len(HEADERS)


def zipped(header: ReadHeader) -> bytes:
    return gzip.compress(plain(header), mtime=0)


def flipped(data: bytes) -> bytes:
    return data[:-3000] + bytes([data[-3000] ^ 1]) + data[-2999:]


def of_another_type(header: ReadHeader) -> bytes:
    primary = fits.PrimaryHDU(pixels_of(header).astype(np.float32))
    primary.header.extend(header.cards())
    out = io.BytesIO()
    primary.writeto(out)
    return out.getvalue()


def with_a_third_hdu(header: ReadHeader) -> bytes:
    with fits.open(io.BytesIO(in_extension(header))) as hdus:
        out = io.BytesIO()
        fits.HDUList([*hdus, fits.ImageHDU(np.zeros((2, 2)))]).writeto(out)
        return out.getvalue()


WRONG = HEADERS[1]
OTHER_SHAPE = small_plan(exposures=2, reads=2, detectors=PLAN.detectors, shape=(12, 8))


@pytest.mark.parametrize(
    ("data", "says", "known"),
    [
        (plain(WRONG)[:-100], "bytes, its headers say", True),
        (packed(WRONG)[:-2880], "bytes, its headers say", True),
        (plain(WRONG) + bytes(2880), "bytes, its headers say", True),
        (flipped(in_extension(WRONG)), "checksum of the HDU", True),
        (flipped(packed(WRONG)), "checksum of the HDU 'SCI'", True),
        (of_another_type(WRONG), "unsigned 16-bit pixels have", True),
        (with_a_third_hdu(WRONG), "The file has 3 HDUs", True),
        (plain(header_of(OTHER_SHAPE, WRONG.exposure_id, WRONG.read)), "12 x 8 pixels, announced were 6 x 8", True),
        (plain(WRONG.model_copy(update={"filter": "J"})), "filter is J, planned is H", True),
        (packed(WRONG.model_copy(update={"airmass": 1.2, "filter": "J"})), "filter is J, planned is H", True),
        (plain(WRONG.model_copy(update={"exposure": 9})), "is no read of the plan", False),
        (plain(WRONG)[:1000], "Cannot read the file", False),
        (zipped(WRONG), "The file is compressed by gzip", False),
        (b"", "Cannot read the file", False),
        (b"no FITS file at all" * 1000, "Cannot read the file", False),
        (bytes(2_000_000), "2000000 bytes, a read of the plan has at most 1000096", False),
    ],
)
async def test_what_is_no_read_is_rejected_with_a_reason_and_its_exposure_does_not_wait(
    site: Site, data: bytes, says: str, known: bool
) -> None:
    move_in(site.folder, "wrong.fits", data)
    os.utime(site.folder / "wrong.fits", ns=(0, 0))
    for number, header in enumerate(HEADERS):
        if header is not WRONG:
            move_in(site.folder, f"{number}.fits", packed(header))
    async with site.taking() as task:
        if known:
            await task
        else:
            await site.until_told(1 + 3 * 4 + 2)  # nothing ends the exposure whose second read has not come
            while not site.rejected():
                await asyncio.sleep(0.005)
            assert not task.done()
    (reason,) = site.rejected().values()
    assert says in reason
    assert (site.folder / "rejected" / "wrong.fits").read_bytes() == data
    failed = [(e.exposure_id, e.read, e.reason) for e in site.of(ReadFailed) if isinstance(e, ReadFailed)]
    assert failed == ([(WRONG.exposure_id, WRONG.read, reason.strip())] if known else [])
    assert len(site.of(ReadWritten)) == len(HEADERS) - 1
    names = [type(e).__name__ for e in site.told if isinstance(e, ExposureEvent) and e.exposure_id == WRONG.exposure_id]
    read = ["ReadFailed", "ReadWritten"] if known else ["ReadWritten"]
    assert names == ["ExposureStarted", *read, *(["ExposureEnded"] if known else [])]


async def test_a_link_is_rejected_and_what_it_names_is_untouched(site: Site) -> None:
    (site.home / "elsewhere").write_bytes(packed(HEADERS[0]))
    (site.folder / "link.fits").symlink_to(site.home / "elsewhere")
    async with site.taking():
        while not (site.folder / "rejected" / "link.fits.txt").exists():
            await asyncio.sleep(0.005)
    assert (site.home / "elsewhere").read_bytes() == packed(HEADERS[0])
    assert site.of(ReadWritten) == []


async def test_rejected_files_of_one_name_are_all_kept(site: Site) -> None:
    async with site.taking():
        for number in range(3):
            move_in(site.folder, "same.fits", bytes([number]))
            while len(site.rejected()) == number:
                await asyncio.sleep(0.005)
    contents = [(site.folder / "rejected" / name).read_bytes() for name in site.rejected()]
    assert sorted(contents) == [b"\x00", b"\x01", b"\x02"]


async def test_a_good_file_of_a_read_that_had_failed_is_taken_even_after_the_end(site: Site) -> None:
    move_in(site.folder, "wrong.fits", plain(WRONG)[:-100])
    os.utime(site.folder / "wrong.fits", ns=(0, 0))
    for number, header in enumerate(HEADERS):
        if header is not WRONG:
            move_in(site.folder, f"{number}.fits", packed(header))
    async with site.taking() as task:
        await task
    move_in(site.folder, "right.fits", plain(WRONG))
    async with site.taking() as task:
        await task
    assert [type(event).__name__ for event in site.told[-2:]] == ["ReadWritten", "ObservationEnded"]
    event = site.of(ReadWritten)[-1]
    assert isinstance(event, ReadWritten)
    assert (event.exposure_id, event.read) == (WRONG.exposure_id, WRONG.read)
    assert await site.store.get(event.object) == packed(WRONG)


async def test_a_damaged_copy_of_a_read_that_has_come_fails_nothing(site: Site) -> None:
    move_in(site.folder, "first.fits", plain(HEADERS[0]))
    async with site.taking():
        await site.until_told(3)
        move_in(site.folder, "second.fits", plain(HEADERS[0])[:-100])
        while not site.rejected():
            await asyncio.sleep(0.005)
    assert site.of(ReadFailed) == []


async def test_a_new_process_goes_on_and_tells_nothing_twice(site: Site) -> None:
    for number, header in enumerate(HEADERS[:3]):
        move_in(site.folder, f"{number}.fits", packed(header))
    async with site.taking():
        await site.until_told(7)
        await site.until_sent()
    move_in(site.folder, "2.fits", packed(HEADERS[2]))  # as if the first process had died before it removed it
    for number, header in enumerate(HEADERS[3:], start=3):
        move_in(site.folder, f"{number}.fits", plain(header))
    async with site.taking() as task:
        await task
    names = [type(event).__name__ for event in site.told]
    exposure = ["ExposureStarted", "ReadWritten", "ReadWritten", "ExposureEnded"]
    assert names == ["ObservationStarted", *exposure * 4, "ObservationEnded"]
    assert len({event.event_id for event in site.told}) == len(site.told)
    assert list(site.folder.iterdir()) == []


async def test_a_read_with_two_contents_is_passed_on_for_the_readout_to_refuse(site: Site) -> None:
    other = HEADERS[0].model_copy(update={"airmass": 1.2})
    move_in(site.folder, "0.fits", packed(HEADERS[0]))
    async with site.taking():
        await site.until_told(3)
        move_in(site.folder, "1.fits", packed(other))
        await site.until_told(4)
    first, second = (event.announces for event in site.of(ReadWritten))
    assert first is not None
    assert second is not None
    assert await site.store.get(first) == packed(HEADERS[0])
    assert await site.store.get(second) == packed(other)


async def test_an_observation_that_was_started_with_another_plan_is_refused(site: Site) -> None:
    async with site.taking():
        await site.until_told(1)
    with pytest.raises(Fatal, match="was started on 2034-08-01 with another plan"):
        async with site.taking(PLAN.model_copy(update={"filter": "J"})):
            pass
