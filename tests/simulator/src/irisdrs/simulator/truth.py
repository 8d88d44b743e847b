"""The truth beside an exposure: which stars lie on a detector, where, and how bright they are."""

from pathlib import Path

import numpy as np
from astropy.table import Table

from irisdrs.shared.instrument import FULL_WELL_E
from irisdrs.simulator.aperture import isolated
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.exposure import Scene
from irisdrs.simulator.projection import to_pixels
from irisdrs.simulator.psf import star_image
from irisdrs.simulator.sky import sky_electrons, star_electrons

#: A star counts as saturated from this share of the mean full well on: pixels differ, and the threshold lies below it.
_SATURATES_SHARE = 0.85

_DESCRIPTIONS = {
    "star": ("", "identifier of the star in its field"),
    "ra": ("deg", "true right ascension, ICRS"),
    "dec": ("deg", "true declination, ICRS"),
    "x": ("pix", "true column on the detector, 0-based"),
    "y": ("pix", "true row on the detector, 0-based"),
    "electrons_s": ("electron / s", "rate over the whole image of the star"),
    "magnitude": ("mag(AB)", "AB magnitude"),
    "isolated": ("", "no neighbour adds a noticeable share to its flux"),
    "saturates": ("", "its peak fills, or nearly fills, the full well within a ramp"),
}


def truth_table(detector: DetectorTruth, scene: Scene, ramp_time_s: float) -> Table:
    """Stars whose centres lie on a detector during an exposure.

    Parameters
    ----------
    detector : DetectorTruth
    scene : Scene
        With the true pointing.
    ramp_time_s : float
        From the reset to the end of the last read, seconds.

    Returns
    -------
    Table
        Columns star, ra, dec, x, y, electrons_s, magnitude, isolated, saturates, with units; metadata detector,
        filter and pointing (degrees).
    """
    field, psf = scene.field, star_image(scene.filter)
    x, y = to_pixels(scene.pointing, detector.detector, detector.shape, field.ra_deg, field.dec_deg)
    electrons = star_electrons(field.magnitude, scene.filter)
    margin = psf.reach(electrons)
    rows, columns = detector.shape
    touches = (x > -margin) & (x < columns + margin) & (y > -margin) & (y < rows + margin)
    alone = isolated(psf, x[touches], y[touches], electrons[touches])
    peak = (electrons * psf.pixel_profile[0] + sky_electrons(scene.filter)) * ramp_time_s
    values = {
        "star": field.star[touches],
        "ra": field.ra_deg[touches],
        "dec": field.dec_deg[touches],
        "x": x[touches],
        "y": y[touches],
        "electrons_s": electrons[touches],
        "magnitude": field.magnitude[touches],
        "isolated": alone,
        "saturates": peak[touches] > _SATURATES_SHARE * FULL_WELL_E,
    }
    table = Table(values)
    for name, (unit, description) in _DESCRIPTIONS.items():
        table[name].description = description
        if unit:
            table[name].unit = unit
    pointing = scene.pointing
    table.meta.update(
        detector=str(detector.detector),
        filter=scene.filter,
        pointing=[pointing.ra_deg, pointing.dec_deg, pointing.position_angle_deg],
    )
    on_frame = (np.abs(table["x"] - (columns - 1) / 2) <= columns / 2) & (
        np.abs(table["y"] - (rows - 1) / 2) <= rows / 2
    )
    return table[on_frame]


def write_truth(table: Table, path: Path) -> Path:
    """Write a truth table as ECSV, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write(path, format="ascii.ecsv", overwrite=True)
    return path


def read_truth(path: Path) -> Table:
    """Read a truth table that `write_truth` wrote."""
    return Table.read(path, format="ascii.ecsv")
