"""From a read's header to the metadata of the models that are made of it."""

from typing import Any

from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.identifiers import ObservingMode, SamplingMode
from irisdrs.shared.instrument import FILTERS

_IFS_MODES = {ObservingMode.SLI: "SLICER", ObservingMode.LEN: "LENSLET"}


def apply_read_header(model: Any, header: ReadHeader) -> None:
    """Fill the metadata of a model with what a read's header says of its exposure."""
    meta, start = model.meta, header.started_at
    rows, columns = header.shape
    values: dict[str, dict[str, object]] = {
        "instrument": {
            "name": "IRIS",
            "detector": str(header.detector),
            "detector_id": str(header.detector),
            "mode": str(header.mode),
            "filter": header.filter,
            "filter_wavelength": FILTERS[header.filter].centre_um,
            "pupil": header.pupil,
            "scale": header.scale_arcsec,
            "grating": header.grating,
            "ifs_mode": _IFS_MODES.get(header.mode),
        },
        "observation": {
            "observation": header.observation,
            "program": header.exposure_id.program,
            "night": header.night.isoformat(),
            "date": f"{start:%Y-%m-%d}",
            "time": start.strftime("%H:%M:%S.%f")[:-3],
            "exposure_number": header.exposure,
        },
        "exposure": {
            "type": str(header.exposure_type),
            "sampling_mode": str(header.sampling_mode),
            "integration_time": header.integration_time_s,
            "exposure_time": header.ramps * header.integration_time_s,
            "read_interval": header.read_interval_s,
            "frame_time": round(header.read_interval_s * 1e6),
            "reads": header.reads,
            "ramps": header.ramps,
            "gain": header.gain,
            "read_noise": header.read_noise_e,
        },
        "pointing": {
            "ra": header.ra_deg,
            "dec": header.dec_deg,
            "position_angle": header.position_angle_deg,
            "airmass": header.airmass,
        },
        "subarray": {
            "name": str(header.subarray),
            "xstart": header.origin[1] + 1,
            "ystart": header.origin[0] + 1,
            "xsize": columns,
            "ysize": rows,
        },
    }
    if header.sampling_mode is SamplingMode.MCDS:
        values["exposure"]["group_reads"] = header.group_reads
    meta.telescope, meta.time_system = "TMT", "UTC"
    for group, members in values.items():
        for name, value in members.items():
            setattr(getattr(meta, group), name, value)
