"""Warming up loads every kernel that a frame needs."""

from irisdrs.readout.backend import Processor
from irisdrs.readout.sampling.fold import fold_rows
from irisdrs.readout.warming import warm_up


def test_the_kernels_are_compiled_for_the_types_of_real_reads() -> None:
    processor = Processor(1)
    warm_up(processor)
    compiled = len(fold_rows.signatures)
    warm_up(processor)
    processor.shutdown()
    assert compiled == len(fold_rows.signatures) > 0
