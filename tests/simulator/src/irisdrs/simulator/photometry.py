"""How far a reduced image is from the truth: fluxes and places of stars."""

from dataclasses import dataclass

import numpy as np
from astropy.stats import SigmaClip
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture, aperture_photometry
from photutils.centroids import centroid_com, centroid_sources

from irisdrs.shared.instrument import IMAGER_SCALE_ARCSEC, REFERENCE_PIXEL_BORDER
from irisdrs.shared.quality import Quality
from irisdrs.simulator.aperture import Aperture, aperture_for
from irisdrs.simulator.psf import star_image

#: Stars fainter than this are not measured, signal-to-noise ratio in the aperture.
MINIMUM_SIGNAL_TO_NOISE = 20.0
#: A pixel with one of these flags is not used.
UNUSABLE = Quality.DO_NOT_USE | Quality.SATURATED | Quality.DEAD | Quality.HOT | Quality.REFERENCE_PIXEL


@dataclass(frozen=True, slots=True)
class Measurement:
    """Stars of one image against the truth.

    Attributes
    ----------
    flux_error : (n,)
        flux / true flux - 1 of every star used.
    signal_to_noise : (n,)
    offset_arcsec : (n, 2) or None
        Where the WCS puts each star less where it lies, along +x and +y, arcsec; None without a WCS.
    """

    flux_error: NDArray[np.float64]
    signal_to_noise: NDArray[np.float64]
    offset_arcsec: NDArray[np.float64] | None = None

    @property
    def stars(self) -> int:
        """How many stars were used."""
        return int(self.flux_error.size)

    @property
    def flux_error_median(self) -> float:
        """Signed median of flux / true flux - 1; not a number without stars."""
        return float(np.median(self.flux_error)) if self.stars else float("nan")

    @property
    def offset_median_arcsec(self) -> tuple[float, float] | None:
        """Median of `offset_arcsec`: how far the header's pointing is off."""
        if self.offset_arcsec is None or not self.stars:
            return None
        x, y = np.median(self.offset_arcsec, axis=0)
        return float(x), float(y)


def measure(
    image: NDArray[np.float32],
    quality: NDArray[np.uint32],
    truth: Table,
    err: NDArray[np.float32] | None = None,
    wcs: WCS | None = None,
) -> Measurement:
    """Measure the isolated, unsaturated stars of an image at their true places.

    Parameters
    ----------
    image : (ny, nx)
        Reduced image, electrons/s; a sky may be left in it.
    quality : (ny, nx)
        DQ flags.
    truth : Table
        From `truth.truth_table`.
    err : (ny, nx), optional
        Standard deviation, electrons/s; without it the scatter in the annulus stands for it.
    wcs : WCS, optional
        Of the image's header, for `offset_arcsec`.

    Returns
    -------
    Measurement
        Of the stars off bad pixels and off the edge, with a signal-to-noise ratio over 20.
    """
    psf = star_image(truth.meta["filter"])
    aperture = aperture_for(psf)
    bad = ((quality & np.uint32(UNUSABLE)) != 0) | ~np.isfinite(image)
    truth = truth[_usable(truth, aperture, bad)]
    if len(truth) == 0:
        return Measurement(np.empty(0), np.empty(0), None if wcs is None else np.empty((0, 2)))
    places = np.column_stack([truth["x"].value, truth["y"].value])
    circles = CircularAperture(places, aperture.radius)
    ring = ApertureStats(
        image, CircularAnnulus(places, aperture.inner, aperture.outer), mask=bad, sigma_clip=SigmaClip(3.0)
    )
    sums = aperture_photometry(np.where(bad, 0.0, image), circles, error=err)
    flux = (sums["aperture_sum"].value - ring.median * circles.area) / aperture.captured(psf)
    scatter = sums["aperture_sum_err"].value if err is not None else ring.std * np.sqrt(circles.area)
    ratio = flux * aperture.captured(psf) / scatter
    bright = ratio > MINIMUM_SIGNAL_TO_NOISE
    error = flux[bright] / truth["electrons_s"].value[bright] - 1.0
    offset = None
    if wcs is not None and bright.any():
        subtracted = np.where(bad, 0.0, image) - np.median(ring.median)
        offset = _offsets(subtracted, truth[bright], wcs, psf.resolution_px)
    return Measurement(error, ratio[bright], offset)


def _usable(truth: Table, aperture: Aperture, bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Isolated and unsaturated stars, the whole annulus on light-sensitive pixels, no bad pixel in the aperture."""
    x, y = truth["x"].value, truth["y"].value
    margin = aperture.outer + REFERENCE_PIXEL_BORDER + 1.0
    rows, columns = bad.shape
    inside = (x > margin) & (x < columns - 1 - margin) & (y > margin) & (y < rows - 1 - margin)
    usable = np.asarray(truth["isolated"]) & ~np.asarray(truth["saturates"]) & inside
    for star in np.flatnonzero(usable):
        shares = CircularAperture((x[star], y[star]), aperture.radius).to_mask(method="exact")
        cutout = shares.cutout(bad)
        usable[star] = not bool((cutout & (shares.data > 0.0)).any())
    return np.asarray(usable, np.bool_)


def _offsets(image: NDArray[np.float32], truth: Table, wcs: WCS, resolution_px: float) -> NDArray[np.float64]:
    """Places from the WCS less centroids in a box around the core, (n, 2), arcsec."""
    box = 2 * int(np.ceil(1.5 * resolution_px)) + 1
    seen_x, seen_y = centroid_sources(
        image, truth["x"].value, truth["y"].value, box_size=box, centroid_func=centroid_com
    )
    expected_x, expected_y = wcs.wcs_world2pix(truth["ra"].value, truth["dec"].value, 0)
    return np.asarray(np.column_stack([expected_x - seen_x, expected_y - seen_y]) * IMAGER_SCALE_ARCSEC)
