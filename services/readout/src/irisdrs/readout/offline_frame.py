"""A frame that was sampled offline as a data model: what was done to the reads is in its header."""

import copy
from collections.abc import Mapping

from irisdrs.readout.backend import RateFrame
from irisdrs.readout.coadding import SummedFrame
from irisdrs.readout.exposure_reads import ExposureReads
from irisdrs.readout.fitting import JumpTest
from irisdrs.readout.offline import Choices
from irisdrs.readout.sampling.options import ReferenceAlgorithm
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.identifiers import ProductId, SamplingMode


def steps_done(exposure: ExposureReads, choices: Choices, given: Mapping[str, object], border: int) -> dict[str, str]:
    """Steps by their names in the data model, with COMPLETE or SKIPPED.

    Parameters
    ----------
    exposure : ExposureReads
    choices : Choices
    given : mapping
        References by type; a step whose reference is not given is not done.
    border : int
        Rows and columns of reference pixels on each edge.
    """
    done = {
        "rejection": exposure.used < exposure.number or exposure.rejected_intervals > 0,
        "saturation": "saturation" in given,
        "refpix": border > 0,
        "linearity": "nonlincoeff" in given,
        "jump": choices.jumps is not JumpTest.NONE,
        "ramp_fit": True,
    }
    return {step: "COMPLETE" if was_done else "SKIPPED" for step, was_done in done.items()}


def reads_used(exposure: ExposureReads, choices: Choices) -> int:
    """Reads that are in the frame: of a ramp in mode SINGLE only one."""
    return (
        sum(bool(ramp.use_read.any()) for ramp in exposure.ramps)
        if choices.mode is SamplingMode.SINGLE
        else exposure.used
    )


def frame_model(
    arrays: RateFrame, exposure: ExposureReads, choices: Choices, steps: Mapping[str, str]
) -> RawFrameModel:
    """The frame with the metadata of its exposure and what was chosen; a product only if IRIS took the exposure."""
    model = RawFrameModel({"meta": copy.deepcopy(dict(exposure.facts))})
    model.data, model.err, model.dq = arrays.data, arrays.err, arrays.dq
    model.var_poisson, model.var_rnoise = arrays.var_poisson, arrays.var_rnoise
    meta = model.meta
    meta.bunit_data = "DN/s"
    if isinstance(arrays, SummedFrame):
        model.exposure_time, meta.bunit_data, meta.sampling.coadding = arrays.time_s, "DN", "SUM"
    meta.exposure.sampling_mode = str(choices.mode)
    meta.exposure.reads_used, meta.exposure.reads_expected = reads_used(exposure, choices), exposure.expected
    meta.exposure.estimator, meta.exposure.group_reads = choices.name.upper(), choices.group_reads
    meta.sampling.jump_test, meta.sampling.jump_sigma = str(choices.jumps), choices.jump_sigma
    meta.sampling.rejected_reads = exposure.number - exposure.used
    meta.sampling.rejected_intervals = exposure.rejected_intervals
    if choices.grow_saturation:
        meta.sampling.saturation_grown = True
    if choices.reference_algorithm is not ReferenceAlgorithm.MEAN:
        meta.sampling.reference_algorithm = choices.reference_algorithm.upper()
    for step, status in steps.items():
        setattr(meta.cal_step, step, status)
    if exposure.identity is not None:
        product = ProductId(exposure.identity, 1, "raw")
        meta.product.id, meta.product.level, meta.product.kind = str(product), product.level, product.kind
    return model
