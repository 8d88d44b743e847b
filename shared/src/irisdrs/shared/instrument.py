"""Facts about IRIS and its telescope: one table, each number with its source, or "assumed" where nobody gave one.

Where the detectors lie on the sky: position angle counts from North through East to detector +y; at position angle 0,
+y is North and +x is West, so that right ascension falls with x (CDELT1 < 0).

Filters
-------
Wavelength limits and transmission curves: filter tables of the instrument's simulator (oirlab/liger_iris_sim). Its
curve of YN4 repeats KN45's: here YN4 is a top hat with the peak transmission of YN1 to YN3.

Sky: Gemini Observatory's Mauna Kea emission spectrum, 1.6 mm of water, airmass 1.5 (mk_skybg_zm_16_15_ph; OH lines,
zodiacal light and thermal emission of sky and telescope; photons/s/nm/arcsec^2/m^2), integrated over each filter's
curve. Its wavelength axis is in units of 1e-4 nm and begins at 0.9 um; bluewards the mean of 0.90 to 0.93 um is
assumed. In H it comes to 13.3 mag/arcsec^2 (Vega).

AB minus Vega magnitudes: Hewett et al. 2006 (MNRAS 367, 454, table 7: i 0.366, Z 0.528, Y 0.634, J 0.938, H 1.379,
K 1.900), interpolated in log wavelength at the filter's centre; beyond K as the Rayleigh-Jeans law.
"""

from dataclasses import dataclass
from types import MappingProxyType

from irisdrs.shared.identifiers import Detector

#: Collecting area of the telescope, square metres (liger_iris_sim).
TELESCOPE_AREA_M2 = 630.0
#: Diameter of the telescope's primary mirror, metres (TMT).
APERTURE_M = 30.0
#: Electrons per photon at the telescope: mirrors, adaptive optics, instrument, detector; without the filter. Assumed.
THROUGHPUT = 0.4

#: Plate scale of the imager, arcsec per pixel (IRIS design).
IMAGER_SCALE_ARCSEC = 0.004
#: Plate scales of the lenslet array and of the slicer, arcsec per spaxel (IRIS design).
LENSLET_SCALES_ARCSEC = (0.004, 0.009)
SLICER_SCALES_ARCSEC = (0.025, 0.050)
#: Spectral resolution and band of the spectrograph's gratings, as in IFSRES (keyword dictionary of IRIS, where 10000-K
#: reads 1000-K); MIRROR is none.
GRATINGS = (
    *("4000-Z", "4000-Y", "4000-J", "4000-H", "4000-K", "4000-H+K"),
    *("8000-Z", "8000-Y", "8000-J", "8000-H", "8000-Kn1-3", "8000-Kn4-5", "8000-Kbb"),
    *("10000-Z", "10000-Y", "10000-J", "10000-H", "10000-K"),
    "MIRROR",
)
#: From the instrument axis to the inner edges of the imager's detectors, arcsec (liger_iris_sim topology).
IMAGER_INNER_EDGE_ARCSEC = 0.6

#: Rows and columns of a detector, pixels (H4RG).
DETECTOR_SIZE = 4096
#: Rows and columns of reference pixels on each edge (H4RG).
REFERENCE_PIXEL_BORDER = 4
#: Output channels of a detector, each a stripe of columns (IRIS data rates).
CHANNELS = 64
#: Columns of an output channel, whatever the size of the frame.
CHANNEL_COLUMNS = DETECTOR_SIZE // CHANNELS
#: Of every output channel, whether it is read from right to left: neighbours alternate (H4RG). Assumed.
CHANNEL_MIRRORED = (False, True) * (CHANNELS // 2)
#: Time to read all pixels of a detector once, seconds (IRIS data rates).
READ_TIME_S = 0.72
#: Full well, electrons. Assumed.
FULL_WELL_E = 60_000.0
#: Conversion gain, electrons per DN; still to be determined by the instrument. Assumed.
GAIN = 1.0
#: Noise of one read, electrons (liger_iris_sim).
READ_NOISE_E = 9.0
#: Dark current, electrons per second and pixel (liger_iris_sim).
DARK_E_S = 0.025
#: Largest value of the analogue-to-digital converter, DN (16 bit).
ADC_MAX_DN = 65_535


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of the imager.

    Attributes
    ----------
    name : str
        FILTER keyword.
    min_um, centre_um, max_um, bandwidth_um : float
        Wavelengths, micrometres.
    sky_photons : float
        Night sky through the filter, photons/s/m^2/arcsec^2 above the telescope.
    ab_photons : float
        Source of AB magnitude 0 through the filter, photons/s/m^2.
    ab_to_vega : float
        AB magnitude minus Vega magnitude of the same source.
    """

    name: str
    min_um: float
    centre_um: float
    max_um: float
    bandwidth_um: float
    sky_photons: float
    ab_photons: float
    ab_to_vega: float


_TABLE = (
    Filter("Zbb", 0.8107, 0.9037, 0.9967, 0.186, 344.9, 1.066e10, 0.545),
    Filter("Ybb", 0.933, 1.042, 1.151, 0.218, 1015.0, 9.368e09, 0.652),
    Filter("Jbb", 1.135, 1.262, 1.389, 0.254, 1641.0, 8.89e09, 0.956),
    Filter("Hbb", 1.474, 1.637, 1.8, 0.326, 12950.0, 1.019e10, 1.385),
    Filter("Kbb", 1.975, 2.1935, 2.412, 0.437, 3166.0, 9.462e09, 1.894),
    Filter("Z", 0.83, 0.8775, 0.925, 0.095, 125.7, 5.767e09, 0.523),
    Filter("Y", 0.97, 1.02, 1.07, 0.1, 464.2, 4.698e09, 0.627),
    Filter("J", 1.166, 1.248, 1.33, 0.164, 1521.0, 6.674e09, 0.938),
    Filter("H", 1.485, 1.633, 1.781, 0.296, 11520.0, 8.856e09, 1.381),
    Filter("Ks", 1.99, 2.145, 2.3, 0.31, 2370.0, 7.466e09, 1.855),
    Filter("K", 2.0, 2.2, 2.4, 0.4, 3092.0, 9.574e09, 1.899),
    Filter("ZN1", 0.826, 0.8475, 0.869, 0.043, 55.17, 2.679e09, 0.490),
    Filter("ZN2", 0.8602, 0.8826, 0.905, 0.0448, 58.95, 2.677e09, 0.529),
    Filter("ZN3", 0.8958, 0.9191, 0.9424, 0.0466, 79.52, 2.671e09, 0.556),
    Filter("ZN4", 0.9329, 0.95715, 0.9814, 0.0485, 120.4, 2.667e09, 0.584),
    Filter("YN1", 0.9714, 0.99665, 1.0219, 0.0505, 211.2, 2.435e09, 0.611),
    Filter("YN2", 1.0116, 1.03785, 1.0641, 0.0525, 280.4, 2.422e09, 0.645),
    Filter("YN3", 1.0533, 1.08065, 1.108, 0.0547, 348.1, 2.415e09, 0.709),
    Filter("YN4", 1.10821, 1.13925, 1.1703, 0.06209, 362.4, 2.375e09, 0.793),
    Filter("JN1", 1.156, 1.18565, 1.2153, 0.0593, 379.3, 2.173e09, 0.856),
    Filter("JN2", 1.2031, 1.23395, 1.2648, 0.0617, 505.4, 2.178e09, 0.920),
    Filter("JN3", 1.2521, 1.2842, 1.3163, 0.0642, 685.9, 2.298e09, 0.985),
    Filter("JN4", 1.3031, 1.3365, 1.3699, 0.0668, 252.7, 2.19e09, 1.051),
    Filter("HN1", 1.474, 1.51175, 1.5495, 0.0755, 2881.0, 2.274e09, 1.254),
    Filter("HN2", 1.534, 1.5733, 1.6126, 0.0786, 3254.0, 2.252e09, 1.319),
    Filter("HN3", 1.5965, 1.6374, 1.6783, 0.0818, 3330.0, 2.4e09, 1.385),
    Filter("HN4", 1.6615, 1.7041, 1.7467, 0.0852, 2974.0, 2.357e09, 1.455),
    Filter("HN5", 1.7292, 1.7735, 1.8178, 0.0886, 2287.0, 2.321e09, 1.524),
    Filter("KN1", 1.96, 2.0102, 2.0604, 0.1004, 996.2, 2.189e09, 1.742),
    Filter("KN2", 2.0398, 2.09205, 2.1443, 0.1045, 718.9, 2.285e09, 1.812),
    Filter("KN3", 2.1229, 2.1773, 2.2317, 0.1088, 791.0, 2.357e09, 1.881),
    Filter("KN4", 2.2094, 2.266, 2.3226, 0.1132, 410.5, 2.15e09, 1.963),
    Filter("KN5", 2.2993, 2.35825, 2.4172, 0.1179, 935.3, 2.394e09, 2.050),
    Filter("CaIIw", 0.8473, 0.85805, 0.8688, 0.0215, 27.79, 1.332e09, 0.502),
    Filter("PaBetaw", 1.275, 1.2915, 1.308, 0.033, 412.5, 1.192e09, 0.994),
    Filter("FeIIw", 1.637, 1.658, 1.679, 0.042, 1555.0, 1.194e09, 1.407),
    Filter("Br_Gammaw", 2.155, 2.1825, 2.21, 0.055, 435.2, 1.138e09, 1.885),
    Filter("COw", 2.2877, 2.31685, 2.346, 0.0583, 216.0, 1.068e09, 2.011),
    Filter("HeI", 1.0776, 1.09125, 1.1049, 0.0273, 234.3, 1.236e09, 0.725),
    Filter("Jcont", 1.2072, 1.21325, 1.2193, 0.0121, 194.8, 6.985e08, 0.893),
    Filter("PaBeta", 1.275, 1.2815, 1.288, 0.013, 249.4, 6.656e08, 0.981),
    Filter("Hcont", 1.5725, 1.5804, 1.5883, 0.0158, 873.5, 5.768e08, 1.327),
    Filter("FeII", 1.637, 1.6455, 1.654, 0.017, 676.1, 5.632e08, 1.394),
    Filter("H2one", 2.11, 2.121, 2.132, 0.022, 164.4, 5.479e08, 1.836),
    Filter("Kcont", 2.133, 2.1435, 2.154, 0.021, 166.3, 5.176e08, 1.854),
    Filter("Br_Gamma", 2.155, 2.166, 2.177, 0.022, 180.2, 5.273e08, 1.872),
    Filter("H2two", 2.251, 2.262, 2.273, 0.022, 73.14, 5.144e08, 1.959),
    Filter("CO", 2.276, 2.289, 2.302, 0.026, 85.23, 5.616e08, 1.985),
    Filter("KN45", 2.275, 2.33, 2.385, 0.11, 573.7, 2.069e09, 2.024),
    Filter("YJ", 0.925, 1.1325, 1.34, 0.415, 2778.0, 1.828e10, 0.784),
    Filter("HK", 1.572, 1.992, 2.412, 0.84, 13090.0, 2.111e10, 1.726),
)

#: Filters by name.
FILTERS = MappingProxyType({row.name: row for row in _TABLE})

#: Sides of the imager's detectors as seen from the instrument axis: (x, y), with x to the West and y to the North at
#: position angle 0 (2 x 2 grid, rotation 0; assumed).
_IMAGER_GRID = MappingProxyType(
    {Detector.IMG1: (-1, -1), Detector.IMG2: (1, -1), Detector.IMG3: (-1, 1), Detector.IMG4: (1, 1)}
)


def channel_width(columns: int) -> int:
    """Columns of an output channel in a frame of so many columns; smaller frames have fewer channels, not narrower."""
    return min(CHANNEL_COLUMNS, columns)


def detector_axis_offset_arcsec(detector: Detector, shape: tuple[int, int]) -> tuple[float, float]:
    """Centre of a detector from the instrument axis.

    Parameters
    ----------
    detector : Detector
    shape : (rows, columns)
        Size of the frame, pixels. Smaller frames keep the distance of their inner edges from the axis.

    Returns
    -------
    x, y : float
        Arcsec along the detectors' +x and +y axes (West and North at position angle 0). The integral-field
        spectrograph's field lies on the axis.
    """
    if detector is Detector.IFS:
        return 0.0, 0.0
    side_x, side_y = _IMAGER_GRID[detector]
    rows, columns = shape
    return (
        side_x * (IMAGER_INNER_EDGE_ARCSEC + columns / 2 * IMAGER_SCALE_ARCSEC),
        side_y * (IMAGER_INNER_EDGE_ARCSEC + rows / 2 * IMAGER_SCALE_ARCSEC),
    )
