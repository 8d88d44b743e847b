"""From an event and the object's own headers to what the catalogue records."""

from irisdrs.archive.catalogue.arrival import Arrival, Description, Input
from irisdrs.shared.errors import BadMessage
from irisdrs.shared.events.event import ExposureEvent
from irisdrs.shared.events.facts import FrameReady, FrameReduced, ReadWritten
from irisdrs.shared.identifiers import ProductId, ReadId


def of_read(event: ReadWritten, description: Description) -> Arrival:
    """A read: it is taken, not made, so that its content is its version."""
    return Arrival(
        object=event.object,
        product_id=str(ReadId(event.exposure_id, event.ramp, event.read)),
        version=event.object.sha256,
        level=0,
        kind="read",
        exposure=event.exposure_id,
        night=event.night,
        photons_end=event.photons_end,
        reads_used=1,
        reads_expected=1,
        description=description,
    )


def of_raw_frame(event: FrameReady, description: Description) -> Arrival:
    """A raw science frame. Its event names its reads by their hash only: there may be thousands of them."""
    product = product_of(event, event.product_id, level=1)
    return Arrival(
        object=event.object,
        product_id=event.product_id,
        version=event.job_hash,
        level=product.level,
        kind=product.kind,
        exposure=event.exposure_id,
        night=event.night,
        photons_end=event.photons_end,
        reads_used=event.reads_used,
        reads_expected=event.reads_expected,
        description=description,
        inputs_hash=event.inputs_hash,
        crds_context=event.crds_context,
        software_version=event.software_version,
        quality={"saturated_fraction": event.saturated_fraction},
    )


def of_reduced_frame(event: FrameReduced, description: Description) -> Arrival:
    """A reduced frame, with what it was made of."""
    product = product_of(event, event.product_id, level=event.level)
    return Arrival(
        object=event.object,
        product_id=event.product_id,
        version=event.job_hash,
        level=product.level,
        kind=product.kind,
        exposure=event.exposure_id,
        night=event.night,
        photons_end=event.photons_end,
        reads_used=event.reads_used,
        reads_expected=event.reads_expected,
        description=description,
        inputs_hash=event.inputs_hash,
        crds_context=event.crds_context,
        software_version=event.software_version,
        quality=event.quality,
        inputs=tuple(Input(role, product_id, sha256) for role, product_id, sha256 in event.inputs),
    )


def product_of(event: ExposureEvent, product_id: str, *, level: int) -> ProductId:
    """The product that an event announces.

    Raises
    ------
    BadMessage
        If its id is none, or is of another exposure or level than the event.
    """
    try:
        product = ProductId.parse(product_id)
    except ValueError as error:
        raise BadMessage(f"{event.told_as} {event.subject}: {error}.") from error
    if product.exposure != event.exposure_id or product.level != level:
        raise BadMessage(f"{event.told_as} announces {product_id}, but speaks of {event.exposure_id}, level {level}.")
    return product
