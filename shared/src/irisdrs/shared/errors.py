"""Errors say what happened, what happens next and what you may do; the type says whether to try again."""


class IrisError(Exception):
    """An error of the system.

    Parameters
    ----------
    message : str
        What happened, with the names and values that identify it.
    remedy : str
        What a person may do about it. Shown in parking queues and by the command line.
    """

    #: What the system does next; a class attribute, because the type decides it.
    consequence = "The command stops."

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword argument when the error crosses a process boundary."""
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[IrisError], message: str, remedy: str) -> IrisError:
    return kind(message, remedy=remedy)


class Retryable(IrisError):
    """The same event may succeed later: it goes to the retry stage and uses up an attempt."""

    consequence = "The event is tried again after a delay."


class Outage(IrisError):
    """A server that everybody needs is away: not the event's fault, so no attempt is used up."""

    consequence = "The event waits until the server is back."


class Fatal(IrisError):
    """The event can never succeed as it is: it is parked at once, with this reason."""

    consequence = "The event is parked; re-drive it after the cause is mended."


class BadMessage(Fatal):
    """The message is no event of this version: not JSON, no envelope, unknown type, a field that does not fit."""


class EventTooLarge(Fatal):
    """A handler has made an event that no bus takes."""


class CorruptObject(Fatal):
    """An object's bytes are not what was announced, or are no readable FITS file."""


class WrongShape(Fatal):
    """A read is not of the shape that its exposure announced."""


class ReadConflict(Fatal):
    """Two different contents for one read: neither is used until a person decides."""


class MissingReference(Fatal):
    """CRDS knows no calibration reference for this configuration, or its file is absent."""


class NotDue(IrisError):
    """A deadline event came before its time: it recirculates and uses up no attempt."""

    consequence = "The event recirculates until it is due."
