"""Linearity of the C library's files and of ours, its slope, and what was wrong there; zero read and dark."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numba import njit
from numpy.typing import NDArray
from typer.testing import CliRunner

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout import constants
from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import REFERENCE_TYPES, calibrate_for
from irisdrs.readout.cli import app
from irisdrs.readout.exposure_files import open_exposure
from irisdrs.readout.given_references import calibration_of
from irisdrs.readout.sampling import cds, utr
from irisdrs.readout.sampling.dark import subtract_dark_from_read, subtract_dark_rate, subtract_zero_read
from irisdrs.readout.sampling.linearity import from_iris_readout, linearity_slope, linearity_terms
from irisdrs.shared.data.fits import open_model, read_header
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.errors import CorruptObject, MissingReference
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.instrument import REFERENCE_PIXEL_BORDER
from irisdrs.shared.quality import Quality

#: Coefficients as those of a detector that loses some percent at 50,000 DN.
PLANES = (0.01, 2e-7, 1e-11, 3e-16, 1e-21)


def iris_readout(x: NDArray[np.float64], c: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the C library computes for one pixel, in double precision."""
    c0, c1, c2, c3, c4 = (float(one) for one in c)
    return np.asarray((1 + c0 + c1 * x + c2 * x**2 + c3 * x**3 + c4 * x**4) * x)


def polynomial(x: NDArray[np.float64], a: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(sum(float(one) * x**i for i, one in enumerate(a)))


def frame(processor: Processor, coefficients: NDArray[np.float32], counts: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Linearised counts of every pixel: the difference to a read of 1 DN, one second earlier."""
    shape = counts.shape
    calibration = calibrate_for(
        mask=np.zeros(shape, np.uint32),
        coefficients=coefficients,
        coefficients_dq=np.zeros(shape, np.uint32),
        saturation=np.full(shape, 65000, np.float32),
        saturation_dq=np.zeros(shape, np.uint32),
        gain=np.ones(shape, np.float32),
        read_noise=np.ones(shape, np.float32),
        border=0,
    )
    state = processor.open(calibration, SamplingMode.CDS, 1.0)
    processor.fold(state, np.ones(shape, np.uint16), 1.0)
    processor.fold(state, counts, 2.0)
    return processor.close(state).data


def test_five_planes_are_the_same_polynomial_in_six_coefficients() -> None:
    planes = np.array(PLANES, np.float32)[:, None, None] * np.ones((5, 2, 3), np.float32)
    coefficients = from_iris_readout(planes)
    assert coefficients.shape == (6, 2, 3)
    assert coefficients.dtype == np.float32
    x = np.linspace(0, 60000, 25)
    # a_1 = 1 + c_0 is rounded once
    np.testing.assert_allclose(polynomial(x, coefficients[:, 0, 0]), iris_readout(x, planes[:, 0, 0]), rtol=1.2e-7)
    identity = from_iris_readout(np.zeros((5, 1, 1), np.float32))
    np.testing.assert_array_equal(identity[:, 0, 0], [0, 1, 0, 0, 0, 0])


def test_a_coefficient_corrects_its_own_pixel_and_no_other(processor: Processor) -> None:
    # iris_readout has c[j + i * 2048]: transposed, and of one width only.
    for shape, places in (((30, 50), [(10, 20), (20, 10), (0, 49), (29, 0)]), ((8, 2100), [(7, 2099), (1, 52)])):
        for place in places:
            planes = np.zeros((5, *shape), np.float32)
            planes[(1, *place)] = 1e-6
            counts = np.full(shape, 20000, np.uint16)
            corrected = frame(processor, from_iris_readout(planes), counts) - np.float32(19999)
            # 1e-6 (20000^2 - 1) = 400 DN, and nothing anywhere else
            assert np.argwhere(corrected).tolist() == [list(place)]
            assert corrected[place] == pytest.approx(400, rel=1e-3)


def test_every_pixel_has_a_polynomial_of_its_own(processor: Processor) -> None:
    rng = np.random.default_rng(4)
    shape = (6, 9)
    planes = (np.array(PLANES)[:, None, None] * rng.uniform(0.5, 1.5, (5, *shape))).astype(np.float32)
    counts = rng.integers(100, 60000, shape).astype(np.uint16)
    found = frame(processor, from_iris_readout(planes), counts)
    for y, x in np.ndindex(shape):
        both = iris_readout(np.array([float(counts[y, x]), 1.0]), planes[:, y, x])
        # five multiply-adds in float32 at up to 65,000 DN
        assert found[y, x] == pytest.approx(both[0] - both[1], rel=6e-7)


def test_the_slope_is_the_derivative_of_the_polynomial() -> None:
    coefficients = from_iris_readout(np.array(PLANES, np.float32)[:, None, None])
    terms, _ = linearity_terms(coefficients, np.zeros((1, 1), np.uint32))
    x = np.linspace(0, 60000, 13, dtype=np.float32)
    slope = np.array([linearity_slope(one, *terms[:, 0, 0]) for one in x])
    assert slope.dtype == np.float32
    double = x.astype(np.float64)
    exact = sum(i * float(a) * double ** (i - 1) for i, a in enumerate(coefficients[:, 0, 0]) if i)
    np.testing.assert_allclose(slope, exact, rtol=6e-7)
    step = 0.5
    up, down = (polynomial(double + sign * step, coefficients[:, 0, 0]) for sign in (1, -1))
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-6)
    assert linearity_slope(np.float32(0), *terms[:, 0, 0]) == terms[0, 0, 0]
    compiled = njit(linearity_slope)
    in_kernel = np.array([compiled(one, *terms[:, 0, 0]) for one in x])
    np.testing.assert_allclose(in_kernel, exact, rtol=6e-7)


async def test_a_file_of_the_c_library_is_taken_offline_and_by_no_service(
    bench: Any, tmp_path: Path, exposure: Any
) -> None:
    reads = [tmp_path / "store" / read.object.key for read in bench.reads[:4]]
    header = read_header(reads[0])
    found = await open_references(exposure[2]).best_references(
        header.crds_parameters(), REFERENCE_TYPES, bench.plan.crds_context
    )
    paths = {kind: one.path for kind, one in found.items()}
    own, exposure_of_reads = constants.load(paths, header.shape), open_exposure(reads)
    planes = own.terms.copy()
    planes[0] -= 1
    for name, hdus in (
        ("primary.fits", [fits.PrimaryHDU(planes)]),
        ("extension.fits", [fits.PrimaryHDU(), fits.ImageHDU(planes.astype(np.float64))]),
        ("narrow.fits", [fits.PrimaryHDU(planes[:, :, :-1])]),
    ):
        fits.HDUList(hdus).writeto(tmp_path / name)
    files = [paths | {"nonlincoeff": tmp_path / f"{name}.fits"} for name in ("primary", "extension", "narrow")]
    for one in files[:2]:
        converted = calibration_of(one, exposure_of_reads, REFERENCE_PIXEL_BORDER)
        np.testing.assert_allclose(converted.terms, own.terms, rtol=1.2e-7)
        assert converted.terms.dtype == np.float32
    with pytest.raises(CorruptObject, match="expected was a NonlinCoeffModel"):
        constants.load(files[0], header.shape)
    with pytest.raises(MissingReference, match="64 x 63 pixels, the reads of 64 x 64"):
        calibration_of(files[2], exposure_of_reads, REFERENCE_PIXEL_BORDER)
    np.testing.assert_array_equal(calibration_of(paths, exposure_of_reads, REFERENCE_PIXEL_BORDER).terms, own.terms)

    rates: list[NDArray[np.float32]] = []
    for given in (paths, files[0]):
        options = [option for kind, path in given.items() for option in (f"--{kind}", str(path))]
        output = tmp_path / f"{len(rates)}.fits"
        result = CliRunner().invoke(app, ["fit", *map(str, reads), *options, "--output", str(output), "--json"])
        assert result.exit_code == 0, result.output
        with open_model(output, RawFrameModel) as model:
            rates.append(np.asarray(model.data))
    # counts up to 65,535 DN are rounded to 2**-9 DN, with weights that add up to at most 2 per second
    np.testing.assert_allclose(rates[1], rates[0], rtol=1e-6, atol=2 * 2**-8)


@pytest.mark.parametrize("estimator", [utr, cds])
def test_the_dark_current_leaves_the_reads_or_the_rate_alike(estimator: Any) -> None:
    rng = np.random.default_rng(6)
    times = np.array([0.7, 1.4, 2.2, 2.9, 5.0])
    reads = rng.uniform(1000, 1400, (5, 7, 8)).astype(np.float32)
    dark = rng.uniform(0, 5, (7, 8)).astype(np.float32)
    dark[0, 0] = np.nan
    variance = rng.uniform(0.1, 0.2, (2, 7, 8)).astype(np.float32)
    variance[1, 0, 1] = -1
    weights = estimator.weights(times)
    of_reads = [subtract_dark_from_read(read, dark, t) for read, t in zip(reads, times, strict=True)]
    before = np.tensordot(weights, np.array(of_reads, np.float64), 1)
    rate = np.tensordot(weights, reads.astype(np.float64), 1).astype(np.float32)
    after, var, flags = subtract_dark_rate(rate, variance[0], dark, variance[1])
    known = flags == 0
    # counts of 1400 DN in float32, weights that add up to at most 2 per second
    np.testing.assert_allclose(after[known], before[known], atol=2 * 2**-13 * 2)
    assert np.argwhere(~known).tolist() == [[0, 0], [0, 1]]
    assert (flags[~known] == Quality.UNRELIABLE_DARK).all()
    np.testing.assert_array_equal(after[~known], rate[~known])
    np.testing.assert_array_equal(var[~known], variance[0][~known])
    np.testing.assert_array_equal(var[known], (variance[0] + variance[1])[known])
    with_dark = np.tensordot(weights, np.array([dark * t for t in times], np.float64), 1)
    np.testing.assert_allclose(with_dark[known], dark[known], rtol=1e-6)


def test_the_zero_read_drops_out_of_every_slope_and_brings_its_noise_to_a_single_read() -> None:
    rng = np.random.default_rng(7)
    times = np.array([0.7, 1.4, 2.2, 2.9])
    reads = rng.integers(1000, 60000, (4, 5, 6)).astype(np.float32)
    noise = np.full((5, 6), 9, np.float32)
    above = np.array([subtract_zero_read(read, reads[0], noise)[0] for read in reads])
    for estimator in (utr, cds):
        weights = estimator.weights(times)
        plain, without = (np.tensordot(weights, one.astype(np.float64), 1) for one in (reads, above))
        np.testing.assert_allclose(without, plain, rtol=1e-9, atol=1e-9)
    signal, variance = subtract_zero_read(reads[3], reads[0], noise)
    np.testing.assert_array_equal(signal, reads[3] - reads[0])
    np.testing.assert_array_equal(variance, 2 * 81)
