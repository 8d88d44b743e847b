"""Speed of the readout: ``python -m tests.benchmarks.bench_readout [SIZE] [--json FILE]``, or ``make bench-readout``.

Side by side in one run, on two threads: reads that are folded as they come, beside NumPy, stcal's OLS_C and the
in-place bandwidth of the memory; then the frame, from the last read to the store; five detectors in turns; and the
exact fit of a ramp that is at hand, beside stcal's LIKELY. Everything takes turns, and ratios are medians of pairs, so
that other work on the machine slows both. Goals are for two threads on a machine that is otherwise quiet; on a busy one
those by CPU time count, which are half as high beside a peer that has one thread. As a test it takes a small detector,
so that it cannot rot.

Reads are in memory, decoded; what it costs to decompress one is said on a line of its own.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import argparse
import json
from pathlib import Path

from tests.benchmarks.readout.figures import Figure, machine, table
from tests.benchmarks.readout.fits import fit_figures, fit_in_turns
from tests.benchmarks.readout.frames import frame_figures
from tests.benchmarks.readout.memory import memory_figures
from tests.benchmarks.readout.scene import detector
from tests.benchmarks.readout.streams import five_detectors, fold_in_turns, stream_figures

from irisdrs.readout.backend import Processor
from irisdrs.readout.warming import warm_up
from irisdrs.shared.instrument import DETECTOR_SIZE

THREADS = 2
#: Reads of a ramp that is streamed, of one that is fitted, and of each of five detectors.
STREAMED, FITTED, EACH = 30, 100, 10


def measure(size: int, streamed: int, fitted: int) -> list[Figure]:
    """All figures."""
    shape = (size, size)
    processor, calibration = Processor(THREADS), detector(shape)
    warm_up(processor)
    turns, states = fold_in_turns(processor, calibration, streamed, THREADS)
    figures = stream_figures(turns, states, size * size)
    del states
    figures += frame_figures(processor, calibration)
    figures += memory_figures(processor, calibration)
    figures.append(five_detectors(processor, shape, EACH))
    figures += fit_figures(fit_in_turns(processor, calibration, fitted), fitted, size * size)
    processor.shutdown()
    return figures


def main() -> None:
    """Print the figures, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", nargs="?", type=int, default=DETECTOR_SIZE, help="rows and columns of a read")
    parser.add_argument("--streamed", type=int, default=STREAMED, help="reads of a ramp that is streamed")
    parser.add_argument("--fitted", type=int, default=FITTED, help="reads of a ramp that is fitted when it is whole")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    chosen = parser.parse_args()
    before = machine(THREADS)
    figures = measure(chosen.size, chosen.streamed, chosen.fitted)
    sizes = {"size": chosen.size, "streamed_reads": chosen.streamed, "fitted_reads": chosen.fitted}
    report = before | {"load_after": machine(THREADS)["load"]} | sizes
    print(", ".join(f"{name} {value}" for name, value in report.items()))
    print(table(figures))
    if chosen.json:
        document = report | {"figures": [figure.document() for figure in figures]}
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def test_readout_benchmark_runs() -> None:
    figures = {figure.name: figure for figure in measure(256, streamed=4, fitted=8)}
    assert figures["full chain, planes"].wall == 27  # six of float32, one of uint16, one of uint8
    assert min(figure.wall for figure in figures.values()) > 0


if __name__ == "__main__":
    main()
