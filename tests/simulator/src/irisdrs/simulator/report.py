"""What a night came to: products, latencies, and the error against the truth."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from rich.console import Console
from rich.table import Table

from irisdrs.shared.events import Envelope, Event, FrameReady, FrameReduced, ServiceStatus
from irisdrs.simulator.ledger import Verdict, is_read
from irisdrs.simulator.photometry import Measurement, measure
from irisdrs.simulator.truth import read_truth

#: Largest median photometric error that a reduction may make, relative.
TOLERATED_ERROR = 0.005


@dataclass(slots=True)
class Latencies:
    """How long things took, seconds.

    Attributes
    ----------
    frame_ready, reduced : dict of str to float
        From the last photon of a frame to its first announcement, by product id: what reconciliation tells again does
        not count.
    loop_lag : dict
        Worst delay of the event loop of each service process; empty where there is one process only.
    """

    frame_ready: dict[str, float] = field(default_factory=dict)
    reduced: dict[str, float] = field(default_factory=dict)
    loop_lag: dict[str, float] = field(default_factory=dict)

    def note(self, envelope: Envelope, event: Event) -> None:
        """Take note of what an event tells about times."""
        if isinstance(event, FrameReady):
            self.frame_ready.setdefault(event.product_id, _seconds(event.photons_end, envelope.time))
        if isinstance(event, FrameReduced):
            self.reduced.setdefault(event.product_id, _seconds(event.photons_end, envelope.time))
        if isinstance(event, ServiceStatus):
            self.loop_lag[event.service] = max(event.lag_s, self.loop_lag.get(event.service, 0.0))


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def measure_image(path: Path, truth: Path) -> Measurement:
    """The stars of a reduced image, a file of this system, against the truth."""
    with fits.open(path) as hdus:
        image, err = (np.asarray(hdus[name].data, np.float32) for name in ("SCI", "ERR"))
        quality = np.asarray(hdus["DQ"].data, np.uint32)
        wcs = WCS(hdus["SCI"].header)
    return measure(image, quality, read_truth(truth), err, wcs)


@dataclass(frozen=True, slots=True)
class Report:
    """A night in numbers."""

    verdict: Verdict
    latencies: Latencies
    measurements: Mapping[str, Measurement]

    @property
    def products(self) -> int:
        """Frames that should be there and are."""
        return sum(not is_read(name) for name in self.verdict.found)

    @property
    def photometry_error_median(self) -> float | None:
        """Signed median of flux / true flux - 1 over all measured stars of all images; None where there is no star."""
        errors = np.concatenate([m.flux_error for m in self.measurements.values()] or [np.empty(0)])
        return float(np.median(errors)) if len(errors) else None

    @property
    def good(self) -> bool:
        """Nothing lost, nothing twice, and the photometry right: that of at least one star."""
        error = self.photometry_error_median
        return not (self.verdict.lost or self.verdict.duplicated) and error is not None and abs(error) < TOLERATED_ERROR

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        facts = {
            "products": self.products,
            "lost": len(self.verdict.lost),
            "duplicated": len(self.verdict.duplicated),
            "latency_s": {
                "frame_ready_max": max(self.latencies.frame_ready.values(), default=None),
                "reduced_max": max(self.latencies.reduced.values(), default=None),
                "loop_lag_max": self.latencies.loop_lag,
            },
            "photometry_error_median": self.photometry_error_median,
            "stars": sum(m.stars for m in self.measurements.values()),
        }
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def show(self, console: Console, rows: Sequence[Mapping[str, object]]) -> None:
        """Print the report."""
        table = Table(title="Products", title_justify="left")
        for column in ("exposure", "detector", "product", "reads", "MB", "stars", "flux error", "pointing (mas)"):
            table.add_column(column, justify="left" if column in ("exposure", "product") else "right")
        for row in sorted(rows, key=lambda row: (str(row["exposure"]), str(row["product_id"]))):
            measured = self.measurements.get(str(row["product_id"]))
            table.add_row(
                f"{row['exposure_type']} {row['exposure']}",
                str(row["detector"]),
                f"L{row['level']} {row['kind']}",
                f"{row['reads_used']}/{row['reads_expected']}",
                f"{float(str(row['size'])) / 1e6:.1f}",
                *_figures(measured),
            )
        console.print(table)
        for name, values in (("raw frame", self.latencies.frame_ready), ("reduced image", self.latencies.reduced)):
            if values:
                console.print(f"last read to {name}: worst {max(values.values()):.1f} s")
        if self.latencies.loop_lag:
            name, lag_s = max(self.latencies.loop_lag.items(), key=lambda item: item[1])
            console.print(f"event loop late: worst {lag_s * 1e3:.0f} ms ({name})")
        error = self.photometry_error_median
        if error is None:
            console.print("[red]photometry[/]: no star could be measured; frames with a larger --size have some")
        else:
            console.print(f"photometry: median flux / true flux - 1 = {error:+.5f}")
        for name in self.verdict.lost:
            console.print(f"[red]lost[/]: {name}")
        for name in self.verdict.duplicated:
            console.print(f"[red]duplicated[/]: {name}")


def _figures(measured: Measurement | None) -> tuple[str, str, str]:
    if measured is None or not measured.stars:
        return "", "", ""
    offset = measured.offset_median_arcsec
    where = f"{offset[0] * 1e3:+.1f}, {offset[1] * 1e3:+.1f}" if offset else ""
    return str(measured.stars), f"{measured.flux_error_median:+.5f}", where
