"""Warming up loads every kernel that a frame needs."""

from irisdrs.readout.backend import Processor
from irisdrs.readout.sampling.coadd import add_combination_rows, add_rows, add_segment_rows, close_rows
from irisdrs.readout.sampling.fold import first_rows, fold_rows, fold_segment_rows, fold_sum_rows
from irisdrs.readout.sampling.growth import grow_rows
from irisdrs.readout.warming import warm_up


def test_the_kernels_are_compiled_for_the_types_of_real_reads() -> None:
    processor = Processor(1)
    warm_up(processor)
    kernels = (
        first_rows,
        fold_rows,
        fold_segment_rows,
        fold_sum_rows,
        grow_rows,
        add_rows,
        add_segment_rows,
        add_combination_rows,
        close_rows,
    )
    compiled = [len(kernel.signatures) for kernel in kernels]
    warm_up(processor)
    processor.shutdown()
    assert compiled == [len(kernel.signatures) for kernel in kernels]
    assert all(compiled)
