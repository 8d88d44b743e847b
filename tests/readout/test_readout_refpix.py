"""Kernels of the reference pixels from darks to frames: the command, the reference, the service."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from tests.readout.conftest import SIZE, tell
from typer.testing import CliRunner, Result

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout.backend import Processor
from irisdrs.readout.cli import app
from irisdrs.readout.handlers import DetectorHandlers
from irisdrs.readout.ramp_models import timed
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.sampling.options import ReferenceAlgorithm
from irisdrs.readout.steps.ramp_fit_step import RampFitStep
from irisdrs.readout.warming import read_header_of
from irisdrs.readout.workshop import Workshop
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.registration import client_environment
from irisdrs.shared.data.fits import encode_read, open_model, open_ramp, to_bytes
from irisdrs.shared.data.models import RawFrameModel, RefpixModel
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import CorruptObject, Fatal, MissingReference
from irisdrs.shared.events import ExposureEvent, FrameReady
from irisdrs.shared.identifiers import ExposureType
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.quality import Quality
from irisdrs.shared.store.keys import observation_key
from irisdrs.shared.testing.replay import replay
from irisdrs.simulator.correlated_noise import CorrelatedNoise
from irisdrs.simulator.night import Night, play

SHAPE, BORDER, NOISE_DN = (192, 128), 4, 8.0
NOISE = CorrelatedNoise(rms_dn=12.0, strength_scatter=0.3)
STRENGTH = NOISE.strength(SHAPE[1], "test")
PLANES = ("data", "err", "var_poisson", "var_rnoise", "dq")
FOREIGN = ("--read-time", "0.72")
DARK = ("--detector", "IMG2", "--useafter", "2034-08-01T00:00:00")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def ramp(path: Path, seed: int, reads: int, rate: float = 0.0, level: int = 3000) -> Path:
    """A ramp of another program with the noise of a simulated detector; a pattern, and rays in its science pixels."""
    rng = np.random.default_rng(seed)
    pattern = rng.normal(level, 30, SHAPE)
    light = np.zeros(SHAPE)
    light[BORDER:-BORDER, BORDER:-BORDER] = rate
    counts = [
        pattern + (k + 1) * light + NOISE.plane(SHAPE, STRENGTH, seed, k) + rng.normal(0, NOISE_DN, SHAPE)
        for k in range(reads)
    ]
    counts[reads // 2][20:24, 30] += 3000
    pixels = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)[None]
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI")]).writeto(path)
    return path


@pytest.fixture(scope="module")
def darks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("darks")
    return [ramp(folder / f"dark-{seed}.fits", seed, 12) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def reference(darks: list[Path]) -> Path:
    output = darks[0].parent / "refpix.fits"
    result = run("refpix", *darks, *FOREIGN, *DARK, "--output", output)
    assert result.exit_code == 0, result.output
    assert "trained on 33 reads" in result.stdout
    return output


def test_the_reference_says_what_it_is_and_is_the_same_every_time(
    darks: list[Path], reference: Path, tmp_path: Path
) -> None:
    with open_model(reference, RefpixModel) as model:
        meta = model.meta
        assert (meta.reftype, meta.useafter, meta.pedigree) == ("refpix", "2034-08-01T00:00:00", "GROUND")
        assert (meta.instrument.detector, meta.kernels.reads, meta.kernels.stripe_columns) == ("IMG2", 33, 64)
        assert (meta.subarray.ysize, meta.subarray.xsize, meta.exposure.read_interval) == (*SHAPE, 0.72)
        assert meta.provenance.input_ids == "dark-1.fits,dark-2.fits,dark-3.fits"
        taps = np.asarray(model.kernels)
    assert taps.shape == (2, 2, 2 * (SHAPE[0] // 4) + 1)
    # The side columns feel the slow noise as strongly as their channels, and the kernels give every channel its own.
    np.testing.assert_allclose(STRENGTH @ taps.sum(axis=2) / STRENGTH, 1, atol=0.2)
    again = tmp_path / "refpix.fits"
    assert run("refpix", *darks, *FOREIGN, *DARK, "--output", again).exit_code == 0
    assert again.read_bytes() == reference.read_bytes()
    assert isinstance(run("refpix", *darks, *FOREIGN, *DARK, "--output", again).exception, Fatal)


def test_rays_and_unstable_pixels_in_the_side_columns_of_darks_teach_nothing(
    darks: list[Path], reference: Path, tmp_path: Path
) -> None:
    struck = []
    for path in darks:
        with fits.open(path) as file:
            pixels = file["SCI"].data
            pixels[0, 5:, 40, 1] += 9000  # a ray in a reference pixel stays until the reset
            pixels[0, ::3, 90, -2] += 500  # telegraph noise
            file.writeto(tmp_path / path.name)
        struck.append(tmp_path / path.name)
    output = tmp_path / "refpix.fits"
    assert run("refpix", *struck, *FOREIGN, *DARK, "--output", output).exit_code == 0
    with open_model(output, RefpixModel) as model, open_model(reference, RefpixModel) as clean:
        taps, expected = np.asarray(model.kernels), np.asarray(clean.kernels)
    np.testing.assert_allclose(taps, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.peers
def test_crds_certifies_the_reference(reference: Path, tmp_path: Path) -> None:
    build_context(tmp_path / "cache", [reference])
    program = "import irisdrs_crds_startup, runpy; runpy.run_module('crds.certify', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", program, str(reference)],
        env={name: value for name, value in os.environ.items() if "CRDS" not in name}
        | client_environment(tmp_path / "cache"),
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "0 errors" in said and "0 warnings" in said, said


def spread_of_rows(path: Path) -> float:
    """Standard deviation of the rows' mean rates in one channel, DN/s."""
    with open_model(path, RawFrameModel) as model:
        rate = np.asarray(model.data)[BORDER:-BORDER, BORDER:64]
    return float(np.std(np.median(rate, axis=1)))


@pytest.mark.parametrize(
    "more", [(), ("--estimator", "optimal"), ("--mode", "CDS")], ids=lambda m: "-".join(m) or "fit"
)
def test_kernels_take_the_noise_off_the_rows_of_a_frame(reference: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    science = ramp(tmp_path / "science.fits", 9, 6, rate=20.0)
    given = (science, *FOREIGN, "--gain", 2, "--readnoise", NOISE_DN, "--reference-pixels", BORDER, *more)
    plain, sirs = tmp_path / "plain.fits", tmp_path / "sirs.fits"
    assert run("fit", *given, "--output", plain).exit_code == 0
    result = run("fit", *given, "--refpix", reference, "--output", sirs, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["median_rate_dn_s"] == pytest.approx(20 / 0.72, abs=1.5)
    assert said["references"]["refpix"] == str(reference)
    assert spread_of_rows(sirs) < 0.75 * spread_of_rows(plain)
    cards, before = fits.getheader(sirs), fits.getheader(plain)
    assert (cards["S_REFPIX"], cards["REFALGO"], cards["R_REFPIX"]) == ("COMPLETE", "SIRS", "refpix.fits")
    assert (before["S_REFPIX"], "REFALGO" in before, "R_REFPIX" in before) == ("COMPLETE", False, False)


def test_what_does_not_go_together_is_refused(darks: list[Path], reference: Path, tmp_path: Path) -> None:
    science = ramp(tmp_path / "science.fits", 10, 3)
    foreign = (science, "--gain", 2, "--readnoise", NOISE_DN)
    given = (*foreign, *FOREIGN, "--reference-pixels", BORDER, "--output", tmp_path / "never.fits")

    def refused(kind: type[Exception], words: str, *arguments: object) -> None:
        found = run(*arguments).exception
        assert type(found) is kind, found
        assert words in str(found)

    refused(Fatal, "shall not be used", "fit", *given, "--refpix", reference, "--reference-algorithm", "mean")
    refused(MissingReference, "another program", "fit", *given, "--reference-algorithm", "sirs")
    refused(Fatal, "need two reads", "fit", *given, "--refpix", reference, "--mode", "SINGLE")
    refused(Fatal, "reference pixels", "fit", *given, "--refpix", reference, "--reference-pixels", 0)
    slow = (*foreign, "--read-time", 1.44, "--reference-pixels", BORDER, "--output", tmp_path / "never.fits")
    refused(MissingReference, "for reads of 0.72 s", "fit", *slow, "--refpix", reference)

    def changed(name: str, **values: object) -> Path:
        with open_model(reference.read_bytes(), RefpixModel) as model:
            for path, value in values.items():
                node: Any = model
                *groups, last = path.split("__")
                for group in groups:
                    node = getattr(node, group)
                setattr(node, last, value)
            (tmp_path / name).write_bytes(to_bytes(model))
        return tmp_path / name

    other = changed("other.fits", meta__subarray__ysize=4096)
    refused(MissingReference, "for 4096 x 128 pixels", "fit", *given, "--refpix", other)
    with open_model(reference.read_bytes(), RefpixModel) as model:
        taps = np.array(model.kernels)
    refused(CorruptObject, "do not cover 128", "fit", *given, "--refpix", changed("few.fits", kernels=taps[:, :1]))
    even = changed("even.fits", kernels=taps[:, :, 1:])
    refused(CorruptObject, "have no middle", "fit", *given, "--refpix", even)
    refused(CorruptObject, "have no middle", "fit", *given, "--refpix", changed("no.fits", kernels=taps[:, :, :0]))
    long = np.zeros((2, 2, SHAPE[0] + 1), np.float32)
    refused(CorruptObject, "kernels of 193 rows", "fit", *given, "--refpix", changed("long.fits", kernels=long))
    taps[1, 1, 3] = 1e30
    refused(CorruptObject, "from column 64", "fit", *given, "--refpix", changed("huge.fits", kernels=taps))
    taps[0, 1, 7] = np.nan
    refused(CorruptObject, "from column 64", "fit", *given, "--refpix", changed("nan.fits", kernels=taps))
    cut = tmp_path / "cut.fits"
    cut.write_bytes(reference.read_bytes()[:-4000])
    refused(CorruptObject, "cut.fits", "fit", *given, "--refpix", cut)
    refused(CorruptObject, "", "fit", *given, "--refpix", science)

    made = (*FOREIGN, "--output", tmp_path / "never.fits")
    refused(Fatal, "too few", "refpix", ramp(tmp_path / "short.fits", 11, 6), *made, *DARK)
    bright = ramp(tmp_path / "bright.fits", 12, 12, rate=9000.0)
    refused(Fatal, "bright.fits is saturated", "refpix", darks[0], bright, *made, *DARK)
    small = tmp_path / "small.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((1, 12, 64, 64), np.uint16), name="SCI")]).writeto(small)
    refused(Fatal, "64 x 64 pixels", "refpix", darks[0], small, *made, *DARK)
    refused(Fatal, "Kernels of 96 rows to either side", "refpix", darks[0], *made, *DARK, "--half-width", 96)
    refused(Fatal, "no 3 parts", "refpix", darks[0], *made, *DARK, "--samples", 3)
    for columns, words in ((100, "no whole number of output channels"), (63, "An output channel of 63 columns")):
        odd = tmp_path / f"odd-{columns}.fits"
        pixels = np.ones((1, 12, 64, columns), np.uint16)
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI")]).writeto(odd)
        refused(Fatal, words, "refpix", odd, *made, *DARK)
    refused(Fatal, "An output channel of 63 columns", "fit", odd, *given[1:])
    stuck = tmp_path / "stuck.fits"
    with fits.open(darks[0]) as file:
        file["SCI"].data[..., :BORDER] = file["SCI"].data[..., -BORDER:] = 7
        file.writeto(stuck)
    refused(Fatal, "say nothing of the noise", "refpix", stuck, *made, *DARK)
    mask = np.zeros(SHAPE, np.uint32)
    mask[:, :BORDER] = mask[:, -BORDER:] = Quality.BAD_REF_PIXEL
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask)]).writeto(tmp_path / "mask.fits")
    refused(Fatal, "No pixel of the side columns", "refpix", darks[0], *made, *DARK, "--mask", tmp_path / "mask.fits")
    for wrong in (("--pedigree", "FOO"), ("--pedigree", "INFLIGHT"), ("--author", " ")):
        assert run("refpix", darks[0], *made, *DARK, *wrong).exit_code == 2
    refused(Fatal, "do not say of which detector", "refpix", darks[0], *made)
    refused(Fatal, "dark-1.fits is given twice", "refpix", *darks, darks[0], *made, *DARK)
    assert not (tmp_path / "never.fits").exists()


def test_science_exposures_are_no_darks(bench: Any, tmp_path: Path) -> None:
    found = run("refpix", tmp_path / "store" / "0", "--output", tmp_path / "never.fits").exception
    assert isinstance(found, Fatal)
    assert "is of type SCI" in str(found)


def dark_of_ours(folder: Path, pixels: NDArray[np.uint16], number: int = 0) -> Path:
    """A folder of the reads (reads, rows, columns) of a dark."""
    folder.mkdir()
    facts = {"exposure_type": ExposureType.DRK, "exposure": number, "reads": len(pixels), "ramps": 1}
    plain = read_header_of(pixels.shape[1:]).model_copy(update=facts)
    for k, read in enumerate(pixels):
        header = plain.model_copy(update={"read": k + 1, "read_time_s": 0.72 * (k + 1), "read_interval_s": 0.72})
        (folder / f"{k}.fits").write_bytes(encode_read(read, header))
    return folder


def test_darks_of_ours_say_all_that_the_reference_needs(tmp_path: Path) -> None:
    whole = np.asarray(fits.getdata(ramp(tmp_path / "whole.fits", 14, 12)))[0]
    folder = dark_of_ours(tmp_path / "reads", whole)
    shutil.copytree(folder, tmp_path / "copy")
    output = tmp_path / "refpix.fits"
    result = run("refpix", folder, "--output", output)
    assert result.exit_code == 0, result.output
    by_hand = tmp_path / "by-hand.fits"
    assert run("refpix", tmp_path / "whole.fits", *FOREIGN, *DARK, "--output", by_hand).exit_code == 0
    with open_model(output, RefpixModel) as model, open_model(by_hand, RefpixModel) as same:
        assert (model.meta.instrument.detector, model.meta.exposure.read_interval) == ("IMG1", 0.72)
        assert model.meta.useafter.startswith("20")
        assert model.meta.provenance.input_ids.endswith("IMG1-DRK0-0000")
        np.testing.assert_array_equal(np.asarray(model.kernels), np.asarray(same.kernels))
    twice = run("refpix", folder, tmp_path / "copy", "--output", tmp_path / "never.fits").exception
    assert isinstance(twice, Fatal)
    assert "copy is given twice" in str(twice), "by another name"
    other = run("refpix", folder, "--detector", "IMG2", "--output", tmp_path / "never.fits").exception
    assert isinstance(other, Fatal)
    assert "are of IMG1, not of IMG2" in str(other)


def half_kernels(
    path: Path, shape: tuple[int, int] = (SIZE, SIZE), cadence: float = 0.72, detector: str = "IMG1"
) -> Path:
    """Kernels that take off the mean of both sides in its row."""
    taps = np.zeros((2, 1, 9), np.float32)
    taps[:, :, 4] = 0.5
    model = RefpixModel(kernels=taps)
    meta = model.meta
    meta.telescope, meta.instrument.name, meta.instrument.detector = "TMT", "IRIS", detector
    meta.reftype, meta.useafter, meta.pedigree = "refpix", "2030-01-01T00:00:00", "DUMMY"
    meta.author, meta.description = "test", "half of each side"
    meta.subarray.ysize, meta.subarray.xsize = shape
    meta.kernels.stripe_columns, meta.exposure.read_interval = 64, cadence
    path.write_bytes(to_bytes(model))
    return path


def test_kernels_of_another_detector_are_refused(exposure: Any, tmp_path: Path) -> None:
    kernels = half_kernels(tmp_path / "other.fits", detector="IMG2")
    given = ("fit", exposure[1] / "0", "--crds-path", exposure[2], "--output", tmp_path / "never.fits")
    found = run(*given, "--refpix", kernels).exception
    assert isinstance(found, MissingReference)
    assert "for IMG2, the reads are of IMG1" in str(found)


async def repinned(bench: Any, tmp_path: Path, crds: Path, files: list[Path]) -> Path:
    """A CRDS cache with more references, whose context the plan in the store pins."""
    cache = tmp_path / "crds"
    shutil.copytree(crds, cache)
    plan = bench.plan.model_copy(update={"crds_context": build_context(cache, files)})
    key = observation_key(plan.night, plan.observation)
    (tmp_path / "store" / key).unlink()
    await bench.store.put(key, plan.model_dump_json().encode())
    return cache


def handlers_of(bench: Any, cache: Path, tmp_path: Path, processor: Processor, **options: Any) -> DetectorHandlers:
    room, threads = Room(DEFAULT_BYTES, tmp_path), ThreadPoolExecutor(1)
    return DetectorHandlers(Workshop(bench.store, open_references(cache), threads, processor, room, **options))


async def frame_of(bench: Any, cache: Path, tmp_path: Path, processor: Processor, **options: Any) -> FrameReady:
    handlers, frames = handlers_of(bench, cache, tmp_path, processor, **options), []
    for event in bench.events:
        frames += [one for one in await tell(handlers, event) if isinstance(one, FrameReady)]
    assert len({one.event_id for one in frames}) == 1
    (frame,) = frames[:1]
    return frame


def planes(data: Any) -> list[NDArray[Any]]:
    with open_model(data, RawFrameModel) as model:
        return [np.array(getattr(model, name)) for name in PLANES]


SIRS = {"reference_algorithm": ReferenceAlgorithm.SIRS}


@pytest.mark.parametrize("exact_reads", [0, 150], ids=["stream", "fit"])
async def test_the_service_uses_kernels_when_it_is_told_and_the_command_gives_its_bits(
    bench: Any, exposure: Any, tmp_path: Path, processor: Processor, exact_reads: int
) -> None:
    kernels = half_kernels(tmp_path / "kernels.fits")
    cache = await repinned(bench, tmp_path, exposure[2], [kernels])
    plain = await frame_of(bench, cache, tmp_path, processor, exact_reads=exact_reads)
    plain_data = await bench.store.get(plain.object)
    (tmp_path / "store" / plain.object.key).unlink()  # else it is adopted
    sirs = await frame_of(bench, cache, tmp_path, processor, exact_reads=exact_reads, **SIRS)
    assert sirs.inputs_hash == plain.inputs_hash
    assert sirs.job_hash != plain.job_hash
    data = await bench.store.get(sirs.object)
    with open_model(data, RawFrameModel) as model, open_model(plain_data, RawFrameModel) as without:
        assert model.meta.sampling.reference_algorithm == "SIRS"
        assert model.meta.ref_file.refpix.name == "crds://tmt_iris_refpix_0001.fits"
        assert without.meta.sampling.reference_algorithm is None
        assert without.meta.ref_file.refpix.name is None
    assert any((one != other).any() for one, other in zip(planes(data), planes(plain_data), strict=True))

    more = ("--estimator", "optimal") if exact_reads == 0 else ()
    by_crds = ("fit", tmp_path / "store" / "0", "--crds-path", cache, *more)
    for name, options, expected in (
        ("plain.fits", (), plain_data),
        ("sirs.fits", ("--reference-algorithm", "sirs"), data),
        ("given.fits", ("--refpix", kernels), data),
    ):
        output = tmp_path / name
        result = run(*by_crds, *options, "--output", output)
        assert result.exit_code == 0, result.output
        for one, other in zip(planes(output), planes(expected), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), "refpix"),
        (((SIZE, 4096), 0.72), "for 64 x 4096 pixels"),
        (((SIZE, SIZE), 0.5), "for reads of 0.5 s"),
    ],
    ids=["none", "shape", "cadence"],
)
async def test_reads_wait_for_kernels_that_are_not_there_or_do_not_fit(
    bench: Any, exposure: Any, tmp_path: Path, processor: Processor, files: Any, words: str
) -> None:
    given = [half_kernels(tmp_path / "kernels.fits", *files)] if files else []
    cache = await repinned(bench, tmp_path, exposure[2], given)
    with pytest.raises(MissingReference, match=words):
        await frame_of(bench, cache, tmp_path, processor, **SIRS)


async def test_kernels_that_fitted_the_exposure_before_are_held_against_the_cadence_of_the_next(
    bench: Any, exposure: Any, tmp_path: Path, processor: Processor
) -> None:
    cache = await repinned(bench, tmp_path, exposure[2], [half_kernels(tmp_path / "kernels.fits")])
    handlers = handlers_of(bench, cache, tmp_path, processor, **SIRS)
    told = [answer for event in bench.events for answer in await tell(handlers, event)]
    assert any(isinstance(one, FrameReady) for one in told)
    stored = await bench.store.head(observation_key(bench.plan.night, bench.plan.observation))
    pinned = ObservationPlan.model_validate_json(await bench.store.get(stored.ref))
    slow = pinned.sampling.model_copy(update={"read_time_s": 1.44})
    plan = pinned.model_copy(update={"observation": "2034B-007-124", "sampling": slow})

    async def nobody(_: object) -> None:
        return None

    async with Edge(plan, bench.store, nobody, Spool(tmp_path / "spool", 10**8)) as edge:
        await play(Night(plan), edge, tmp_path / "truth")
        await edge.drained()
    with pytest.raises(MissingReference, match=r"for reads of 0\.72 s, these take 1\.44 s"):
        async for event in replay(bench.store, plan):
            if isinstance(event, ExposureEvent):
                await tell(handlers, event)


def test_the_examples_of_the_page_work(
    bench: Any, exposure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, in one folder."""
    page = (Path(__file__).parents[2] / "services/readout/OFFLINE.md").read_text()
    commands = page.partition("## Kernels of the reference pixels")[2].split("```")[1].strip().splitlines()
    monkeypatch.chdir(tmp_path)
    crds = client_environment(exposure[2])
    for name, value in crds.items():
        monkeypatch.setenv(name, value)
    Path("reads").symlink_to(tmp_path / "store" / "0", target_is_directory=True)
    rng = np.random.default_rng(20)
    for number in (1, 2, 3):
        noise = rng.normal(3000, 9, (6, SIZE, SIZE)) + rng.normal(0, 9, (6, SIZE, 1))
        dark_of_ours(Path(f"dark-{number}"), np.rint(noise).astype(np.uint16), number)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((SIZE, SIZE), np.uint32))]).writeto("mask.fits")
    assert run("pack", "reads", "--output", "ramp.fits").exit_code == 0
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "iris":
            assert arguments.pop(0) == "readout"
            result = run(*arguments)
            assert result.exit_code == 0, result.output
        else:
            assert (program, arguments.pop(0)) == ("strun", "iris_readout")
            step = "irisdrs.readout.pipelines.readout.IrisReadout"
            done = subprocess.run(
                [Path(sys.executable).with_name("strun"), step, *arguments],
                env=os.environ | crds,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout
    for one, other in zip(planes("sirs.fits"), planes("ramp-L1-raw.fits"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_step_does_as_the_command(darks: list[Path], reference: Path, tmp_path: Path) -> None:
    science = ramp(tmp_path / "science.fits", 13, 4, rate=20.0)
    options = {"read_time": 0.72, "gain": 2.0, "readnoise": NOISE_DN, "reference_pixels": BORDER}
    step: dict[str, Any] = {name: options[name] for name in ("gain", "readnoise", "reference_pixels")}
    step |= {"reference_algorithm": "sirs", "override_refpix": str(reference)}
    taken = timed(open_ramp(science), 0.72, ())
    made = RampFitStep.call(taken, **step)
    assert made.meta.sampling.reference_algorithm == "SIRS"
    output = tmp_path / "frame.fits"
    words = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert run("fit", science, *words, "--refpix", reference, "--output", output).exit_code == 0
    for name, plane in zip(PLANES, planes(output), strict=True):
        np.testing.assert_array_equal(np.asarray(getattr(made, name)), plane)
    step["reference_algorithm"] = "mean"
    with pytest.raises(Fatal, match="shall not be used"):
        RampFitStep.call(taken, **step)
