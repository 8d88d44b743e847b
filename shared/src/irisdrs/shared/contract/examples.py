"""One example of every event: part of the contract, because it fixes what an event's subject and id are made of."""

import json
from datetime import UTC, date, datetime

from irisdrs.shared.bus.topology import CALIBRATE_REALTIME, PRODUCERS
from irisdrs.shared.contract.schemas import Document
from irisdrs.shared.events import (
    AssociationDue,
    CombinationRequested,
    ContextChanged,
    Event,
    ExposureAborted,
    ExposureDue,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    PreviewUpdated,
    ProcessingFailed,
    ProductCombined,
    ProductStored,
    ReadFailed,
    ReadWritten,
    ReductionRequested,
    ReferenceCertified,
    ReferenceCreated,
    ReferenceRejected,
    ReprocessRequested,
    ServiceStatus,
    TelemetrySampled,
    encode,
)
from irisdrs.shared.events.sampled import Sampled
from irisdrs.shared.identifiers import Detector, ExposureType, ObservingMode, SamplingMode
from irisdrs.shared.observation import ObservationPlan, PlannedExposure, Sampling
from irisdrs.shared.store.port import JSON, ObjectRef

_OBSERVATION = "2034B-007-123"
_EXPOSURE = f"{_OBSERVATION}-IRIS-IMG1-SCI0-0034"
_NIGHT = date(2034, 8, 1)
_FOLDER = f"2034/08/01/{_OBSERVATION}"
_TIME = datetime(2034, 8, 1, 5, 30, 12, 250_000, tzinfo=UTC)
_CONTEXT = "tmt_0001.pmap"
_VERSION = "0.1.0+5f2c0a9e"
_REQUEST = "reprocess-0001"
_SAMPLING = Sampling(mode=SamplingMode.UTR, reads=8, ramps=1, read_time_s=5.0, shape=(4096, 4096))


_GROUPS = _SAMPLING.model_copy(update={"mode": SamplingMode.MCDS, "group_reads": 3})


def _object(key: str, digit: str, media_type: str = "application/fits") -> ObjectRef:
    return ObjectRef(key=key, sha256=digit * 64, size=21_000_960, media_type=media_type)


_PLAN = ObservationPlan(
    observation=_OBSERVATION,
    night=_NIGHT,
    mode=ObservingMode.IMG,
    filter="Kbb",
    scale_arcsec=0.004,
    detectors=(Detector.IMG1,),
    ra_deg=150.1,
    dec_deg=2.2,
    position_angle_deg=0.0,
    sampling=_SAMPLING,
    exposures=(PlannedExposure(number=34, type=ExposureType.SCI, offset_arcsec=(0.0, 0.0)),),
    crds_context=_CONTEXT,
)
_ABOUT = {
    "observation": _OBSERVATION,
    "exposure_type": ExposureType.SCI,
    "exposure": 34,
    "detector": Detector.IMG1,
    "night": _NIGHT,
}
_MADE = {
    "crds_context": _CONTEXT,
    "software_version": _VERSION,
    "inputs_hash": "b" * 64,
    "job_hash": "c" * 64,
}
_REFERENCE = {
    "file_name": "tmt_iris_dark_0007.fits",
    "reference_type": "dark",
    "object": _object(f"references/dark-{'e' * 16}.fits", "e"),
    "checks": ("shape", "useafter"),
}
_FRAME = FrameReady.model_validate(
    {
        **_ABOUT,
        **_MADE,
        "photons_end": _TIME,
        "product_id": f"{_EXPOSURE}-L1-raw",
        "object": _object(f"1/{_FOLDER}/{_EXPOSURE}-L1-raw/{'b' * 16}-{'c' * 16}.fits", "a"),
        "sampling_mode": SamplingMode.UTR,
        "reads_used": 8,
        "reads_expected": 8,
        "saturated_fraction": 0.001,
    }
)


def _made(kind: type[Event], **data: object) -> Event:
    return kind.model_validate(data)


#: In the order of the topology table's producers.
_FIRST: tuple[Event, ...] = (
    _made(ObservationStarted, plan=_PLAN),
    _made(ObservationEnded, plan=_PLAN),
    _made(ExposureStarted, **_ABOUT, sampling=_SAMPLING, due_at=_TIME, crds_context=_CONTEXT),
    _made(ExposureEnded, **_ABOUT, sampling=_SAMPLING),
    _made(ExposureAborted, **_ABOUT, reason="The observer stopped the sequence."),
    _made(
        ReadWritten,
        **_ABOUT,
        photons_end=_TIME,
        ramp=1,
        read=8,
        read_time_s=40.0,
        sampling=_SAMPLING,
        object=_object(f"0/{_FOLDER}/{_EXPOSURE}/IMG1/0001/00008-{'d' * 16}.fits", "d"),
    ),
    _made(ReadFailed, **_ABOUT, ramp=1, read=7, reason="The detector controller did not answer."),
    _made(
        TelemetrySampled,
        observation=_OBSERVATION,
        exposure_type=ExposureType.SCI,
        exposure=34,
        sequence=3,
        keyword="AIRMASS",
        value=1.21,
        unit="",
        sampled_at=_TIME,
    ),
    _made(ExposureDue, **_ABOUT, due_at=_TIME, sampling=_SAMPLING),
    _FRAME,
    _made(PreviewUpdated, **_ABOUT, object=_object(f"previews/{_EXPOSURE}/8.png", "9", "image/png"), read=8, reads=8),
    _made(
        FrameReduced,
        **_ABOUT,
        **_MADE,
        photons_end=_TIME,
        product_id=f"{_EXPOSURE}-L2-image",
        object=_object(f"2/{_FOLDER}/{_EXPOSURE}-L2-image/{'b' * 16}-{'c' * 16}.fits", "f"),
        product_type="image",
        level=2,
        inputs=(("frame", _FRAME.product_id, _FRAME.object.sha256),),
        reads_used=8,
        reads_expected=8,
        references={"dark": "tmt_iris_dark_0007.fits"},
        step_versions={"dark_current": "0.1.0"},
        quality={"sky_level": 12.5, "noise": 0.8, "bad_fraction": 0.002},
    ),
    _made(AssociationDue, observation=_OBSERVATION, due_at=_TIME),
    _made(
        CombinationRequested,
        observation=_OBSERVATION,
        rule="dither",
        job=_object(f"jobs/{_OBSERVATION}/dither.json", "7", JSON),
        crds_context=_CONTEXT,
    ),
    _made(ReductionRequested, frame=_FRAME, crds_context=_CONTEXT, request=_REQUEST),
    _made(
        ProductCombined,
        **_MADE,
        product_id=f"{_OBSERVATION}-IRIS-IMG-L3-mosaic",
        observation=_OBSERVATION,
        object=_object(f"3/{_FOLDER}/mosaic/{'b' * 16}-{'c' * 16}.fits", "6"),
        product_type="mosaic",
        rule="dither",
        members=_object(f"jobs/{_OBSERVATION}/dither.json", "7", JSON),
        quality={"depth": 5.0},
    ),
    _made(
        ReferenceCreated,
        reference_type="dark",
        object=_REFERENCE["object"],
        useafter=_TIME,
        inputs=((_FRAME.product_id, _FRAME.object.sha256),),
    ),
    _made(ReferenceCertified, **_REFERENCE),
    _made(ReferenceRejected, **_REFERENCE, reason="The shape is not that of the detector."),
    _made(ContextChanged, old_context=_CONTEXT, new_context="tmt_0002.pmap", types=("dark",)),
    _made(ProductStored, product_id=_FRAME.product_id, object=_FRAME.object, catalogue_id=4711),
    _made(
        ReprocessRequested,
        request=_REQUEST,
        selection=f"observation={_OBSERVATION}",
        crds_context="tmt_0002.pmap",
        reason="A better dark.",
        requested_by="operator",
        requested_at=_TIME,
    ),
    _made(
        ProcessingFailed,
        service="calibrate",
        queue=CALIBRATE_REALTIME,
        failed_event_id=_FRAME.event_id,
        failed_type=_FRAME.told_as,
        attempt=1,
        error_class="CorruptObject",
        message="The frame is damaged.",
        outcome="parked",
    ),
    _made(
        ServiceStatus,
        service="readout",
        instance="irisdrs-1/4242",
        software_version=_VERSION,
        state="ready",
        in_flight=1,
        device="cpu",
        lag_s=0.002,
        reported_at=_TIME,
    ),
)


def _in_groups(event: Event) -> Event:
    """The example of an event that says a sampling mode, of an exposure in the mode that its version 1 cannot say."""
    if isinstance(event, FrameReady):
        return event.model_copy(update={"sampling_mode": SamplingMode.MCDS})
    if isinstance(event, ReductionRequested):
        return event.model_copy(update={"frame": _in_groups(event.frame)})
    if isinstance(event, ObservationStarted | ObservationEnded):
        return event.model_copy(update={"plan": event.plan.model_copy(update={"sampling": _GROUPS})})
    return event.model_copy(update={"sampling": _GROUPS})


#: One for each version that an event is told as, the oldest versions first.
EXAMPLES: tuple[Event, ...] = (*_FIRST, *(_in_groups(event) for event in _FIRST if isinstance(event, Sampled)))


def example_message(kind: type[Event], version: int | None = None) -> Document:
    """The example of an event as it travels, told at a fixed time, as this version or as another.

    Raises
    ------
    LookupError
        If `EXAMPLES` has none of this event and version.
    """
    told_as = kind.cloud_type(version)
    event = next((event for event in EXAMPLES if event.told_as == told_as), None)
    if event is None:
        raise LookupError(f"{told_as} has no example: give it one in {__name__}.")
    message: Document = json.loads(encode(event, PRODUCERS[kind][0], spent="readout:1.204,calibrate:4.511"))
    return message | {
        "time": "2034-08-01T05:30:12.500000Z",
        "timetai": "2034-08-01T05:30:49.500000",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
