"""The service in the sampling modes SINGLE and MCDS: frames of exposures whose rates are known by hand."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from typer.testing import CliRunner

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import REFERENCE_TYPES
from irisdrs.readout.cli import app
from irisdrs.readout.estimation import estimation_of
from irisdrs.readout.frame import job_of
from irisdrs.readout.handlers import DetectorHandlers
from irisdrs.readout.membership import Membership
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.workshop import Workshop
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.data.fits import open_model, to_bytes
from irisdrs.shared.data.models import NonlinCoeffModel, RawFrameModel, ReadnoiseModel
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import Event, FrameReady, ReadWritten
from irisdrs.shared.identifiers import Detector, SamplingMode
from irisdrs.shared.identity import inputs_hash
from irisdrs.shared.observation import ObservationPlan, Sampling
from irisdrs.shared.quality import Quality
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.small_observation import NIGHT, START, header_of, small_plan
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.references import write_references

SIZE, BORDER, DT = 64, 4, 0.72
#: Level of the reference pixels, DN: it is that of the science pixels before any light.
LEVEL = 1000


@dataclass(frozen=True)
class Taken:
    """An exposure in the store, what was told of it, and handlers for it."""

    store: DirectoryStore
    plan: ObservationPlan
    told: list[Event]
    handlers: DetectorHandlers
    crds: Path

    @property
    def reads(self) -> list[ReadWritten]:
        return [event for event in self.told if isinstance(event, ReadWritten)]

    async def frame(self) -> FrameReady:
        """The one frame of it."""
        handlers, frames = self.handlers.handlers(), []
        for event in self.told:
            if type(event) in handlers:
                frames += [one for one in await handlers[type(event)](event) if isinstance(one, FrameReady)]
        assert len({one.event_id for one in frames}) == 1
        return frames[0]


@pytest.fixture
def take(tmp_path: Path, processor: Processor) -> Callable[..., Any]:
    """Takes an exposure of a perfectly linear detector without noise; signals in DN, None for a read that fails."""

    async def taken(sampling: Sampling, signals: Sequence[int | None]) -> Taken:
        plan = small_plan(exposures=1, shape=(SIZE, SIZE)).model_copy(
            update={"sampling": sampling, "crds_context": _references(tmp_path, sampling)}
        )
        store, told = DirectoryStore(tmp_path / "store"), list[Event]()

        async def tell(events: Sequence[Event]) -> None:
            told.extend(events)

        (exposure,) = plan.exposure_ids()
        async with Edge(plan, store, tell, Spool(tmp_path / "spool", HostSettings().spool_max_bytes)) as edge:
            await edge.start_observation()
            await edge.start_exposure(exposure, START)
            for number, signal in enumerate(signals):
                ramp, read = number // sampling.reads + 1, number % sampling.reads + 1
                if signal is None:
                    await edge.read_failed(exposure, ramp, read, "for a test")
                else:
                    await edge.write_read(_pixels(signal), header_of(plan, exposure, read, ramp))
            await edge.end_exposure(exposure)
            await edge.drained()
        references = open_references(tmp_path / "crds")
        handlers = DetectorHandlers(
            Workshop(store, references, ThreadPoolExecutor(1), processor, Room(DEFAULT_BYTES, tmp_path))
        )
        return Taken(store, plan, told, handlers, tmp_path / "crds")

    return taken


def _references(home: Path, sampling: Sampling) -> str:
    """References of a simulated detector, but for its linearity; gives the context."""
    truth = DetectorTruth(Detector.IMG1, sampling.shape, seed=1)
    files = write_references(home, [truth], "H", sampling.ramp_time_s, NIGHT)
    (curve,) = (path for path in files if "nonlincoeff" in path.name)
    with open_model(curve.read_bytes(), NonlinCoeffModel) as model:
        identity = np.zeros_like(np.asarray(model.coeffs))
        identity[1] = 1.0
        model.coeffs = identity
        curve.write_bytes(to_bytes(model))
    return build_context(home / "crds", files, take=True)


def _pixels(signal: int) -> NDArray[np.uint16]:
    pixels = np.full((SIZE, SIZE), LEVEL, np.uint16)
    pixels[BORDER:-BORDER, BORDER:-BORDER] += np.uint16(signal)
    return pixels


def groups(reads: int, group_reads: int) -> Sampling:
    return Sampling(
        mode=SamplingMode.MCDS, reads=reads, ramps=1, read_time_s=DT, shape=(SIZE, SIZE), group_reads=group_reads
    )


async def planes(taken: Taken, frame: FrameReady) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rate, its variance by read noise, and flags of the light-sensitive pixels that can be used."""
    with open_model(await taken.store.get(frame.object), RawFrameModel) as model:
        rate, noise, dq = (np.asarray(plane) for plane in (model.data, model.var_rnoise, model.dq))
    good = (dq & np.uint32(Quality.DO_NOT_USE)) == 0
    assert good.sum() > 0.9 * (SIZE - 2 * BORDER) ** 2
    return rate[good], noise[good], dq[good]


async def cards(taken: Taken, frame: FrameReady) -> fits.Header:
    """Header of a frame."""
    with fits.open(io.BytesIO(await taken.store.get(frame.object))) as hdus:
        return hdus[0].header


async def read_noise(taken: Taken) -> float:
    """Mean square noise of one read of the pixels that can be used, DN^2."""
    header = header_of(taken.plan, taken.plan.exposure_ids()[0], 1)
    context = taken.plan.crds_context
    found = await open_references(taken.crds).best_references(header.crds_parameters(), ("readnoise",), context)
    with open_model(found["readnoise"].path, ReadnoiseModel) as model:
        return float(np.median(np.asarray(model.data)[BORDER:-BORDER, BORDER:-BORDER] ** 2))


async def test_a_steady_light_has_its_rate_in_groups(take: Any) -> None:
    taken = await take(groups(8, 3), [360 * read for read in range(1, 9)])
    frame = await taken.frame()
    rate, noise, _ = await planes(taken, frame)
    np.testing.assert_allclose(rate, 360 / DT, rtol=1e-6)
    # The mean of three reads less that of three others, five reads later: 2 sr^2 / 3 / (5 dt)^2
    assert np.median(noise) == pytest.approx(2 * await read_noise(taken) / 3 / (5 * DT) ** 2, rel=0.05)
    assert (frame.sampling_mode, frame.reads_used, frame.told_version) == (SamplingMode.MCDS, 8, 2)
    roles = [(f"read-0001-{read.read:05d}", read.object.sha256) for read in taken.reads]
    assert frame.inputs_hash == inputs_hash("readout.mcds", roles)


@pytest.mark.parametrize(
    ("group_reads", "lost", "first", "last"),
    [
        (1, None, [1], [8]),
        (2, None, [1, 2], [7, 8]),
        (3, None, [1, 2, 3], [6, 7, 8]),
        (4, None, [1, 2, 3, 4], [5, 6, 7, 8]),
        (3, 2, [1, 3], [6, 7, 8]),
        (3, 8, [1, 2, 3], [6, 7]),
        (3, 5, [1, 2, 3], [6, 7, 8]),
    ],
)
async def test_a_light_that_grows_has_the_rate_between_the_groups(
    take: Any, group_reads: int, lost: int | None, first: list[int], last: list[int]
) -> None:
    signals = {read: 50 * read**2 for read in range(1, 9)}
    sampling = groups(8, group_reads)
    taken = await take(sampling, [None if read == lost else signal for read, signal in signals.items()])
    frame = await taken.frame()
    rate, _, dq = await planes(taken, frame)
    rise = np.mean([signals[read] for read in last]) - np.mean([signals[read] for read in first])
    np.testing.assert_allclose(rate, rise / (DT * (np.mean(last) - np.mean(first))), rtol=1e-6)
    assert (dq & Quality.DROPOUT != 0).all() == (lost is not None)
    header = await cards(taken, frame)
    assert (header["SAMPMODE"], header["GRPREADS"]) == ("MCDS", group_reads)


def test_the_number_of_reads_in_a_group_makes_another_job() -> None:
    def job_hash(sampling: Sampling) -> str:
        membership = Membership(small_plan().exposure_ids()[0], sampling)
        return job_of(membership, estimation_of(sampling), {}, "tmt_0001.pmap").job_hash

    assert job_hash(groups(8, 3)) == job_hash(groups(8, 3)) != job_hash(groups(8, 2))


async def test_a_single_read_has_its_signal_by_its_time(take: Any) -> None:
    sampling = Sampling(mode=SamplingMode.SINGLE, reads=1, ramps=2, read_time_s=DT, shape=(SIZE, SIZE))
    taken = await take(sampling, [360, 720])
    frame = await taken.frame()
    rate, _, dq = await planes(taken, frame)
    np.testing.assert_allclose(rate, 540 / DT, rtol=1e-6)
    assert (dq & Quality.UNRELIABLE_SLOPE != 0).all()
    assert (frame.sampling_mode, frame.reads_used, frame.reads_expected) == (SamplingMode.SINGLE, 2, 2)
    roles = [(f"read-{read.ramp:04d}-00001", read.object.sha256) for read in taken.reads]
    assert frame.inputs_hash == inputs_hash("readout.single", roles)
    header = await cards(taken, frame)
    assert header["SAMPMODE"] == "SINGLE"
    assert "GRPREADS" not in header


async def test_the_command_fits_groups_as_the_service_does_and_in_other_modes_when_told(
    take: Any, tmp_path: Path
) -> None:
    taken = await take(groups(8, 3), [50 * read**2 for read in range(1, 9)])
    frame = await taken.frame()
    found = await open_references(taken.crds).best_references(
        header_of(taken.plan, taken.plan.exposure_ids()[0], 1).crds_parameters(),
        REFERENCE_TYPES,
        taken.plan.crds_context,
    )
    options = [option for kind, one in found.items() for option in (f"--{kind}", str(one.path))]

    def fit(name: str, *more: str) -> Any:
        given = ["fit", str(tmp_path / "store" / "0"), *options, "--output", str(tmp_path / name), "--json", *more]
        return CliRunner().invoke(app, given)

    assert fit("same.fits").exit_code == 0
    assert fit("two.fits", "--group-reads", "2").exit_code == 0
    assert fit("cds.fits", "--mode", "CDS").exit_code == 0
    online, _, _ = await planes(taken, frame)
    rates, said = {}, {}
    for name in ("same", "two", "cds"):
        with fits.open(tmp_path / f"{name}.fits") as hdus:
            rates[name] = float(np.median(hdus["SCI"].data[BORDER:-BORDER, BORDER:-BORDER]))
            said[name] = hdus[0].header["SAMPMODE"], hdus[0].header.get("GRPREADS")
    assert said == {"same": ("MCDS", 3), "two": ("MCDS", 2), "cds": ("CDS", None)}
    assert rates["same"] == pytest.approx(float(np.median(online)))
    assert rates["two"] == pytest.approx(50 * ((49 + 64) / 2 - (1 + 4) / 2) / (6 * DT), rel=1e-6)
    assert rates["cds"] == pytest.approx(50 * 63 / (7 * DT), rel=1e-6)
    refused = fit("never.fits", "--group-reads", "5")
    assert isinstance(refused.exception, Fatal)
    assert "Two groups of 5 reads do not fit" in str(refused.exception)
