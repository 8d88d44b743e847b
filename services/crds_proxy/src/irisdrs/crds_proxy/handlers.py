"""One event in, events out: a new reference is certified and published, or rejected with the reason."""

from collections.abc import Sequence
from functools import partial

from irisdrs.crds_proxy.delivery.deliveries import Deliveries
from irisdrs.crds_proxy.delivery.results import CHECKS, Refused
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import Event, ReferenceCertified, ReferenceCreated, ReferenceRejected
from irisdrs.shared.service import Handlers
from irisdrs.shared.store.port import Store

#: Longest reason that an event carries, letters.
_REASON = 4000


def handlers(store: Store, deliveries: Deliveries) -> Handlers:
    """Handlers of the queue ``iris.q.crds``."""
    return {ReferenceCreated: partial(on_reference_created, store=store, deliveries=deliveries)}


def handlers_upstream() -> Handlers:
    """Handlers of the queue ``iris.q.crds`` where contexts are those of another server."""
    return {ReferenceCreated: on_reference_for_upstream}


async def on_reference_for_upstream(event: ReferenceCreated) -> Sequence[Event]:
    """Nothing can be delivered here.

    Raises
    ------
    Fatal
        Always: the event waits for a person.
    """
    raise Fatal(
        f"The {event.reference_type} {event.object.key} cannot be delivered: contexts come from IRIS_CRDS_UPSTREAM.",
        remedy="Deliver it to that server, then discard this event; or re-drive it without IRIS_CRDS_UPSTREAM.",
    )


async def on_reference_created(event: ReferenceCreated, store: Store, deliveries: Deliveries) -> Sequence[Event]:
    """Deliver a reference that lies in the store, unless this very file was delivered before.

    That another context is in force is told by `Announcements`, whoever changed it.
    """
    facts = {"reference_type": event.reference_type, "object": event.object, "checks": CHECKS}
    known = await deliveries.published(event.object.sha256, event.object.size)
    if known is not None:
        return [ReferenceCertified(file_name=known[0], **facts)]
    try:
        async with store.local(event.object) as path:
            outcome = await deliveries.deliver(
                [path], by="calibrate", reason=f"Made from {len(event.inputs)} products.", kind=event.reference_type
            )
    except Refused as problem:
        name = event.object.key.rpartition("/")[2]
        reason = "; ".join(said for each in problem.problems.values() for said in each)
        return [ReferenceRejected(file_name=name, reason=reason[:_REASON], **facts)]
    return [ReferenceCertified(file_name=outcome.references[0].name, **facts)]
