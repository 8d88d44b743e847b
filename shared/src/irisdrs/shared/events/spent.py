"""What each service has spent on the way to an event: the extension attribute `spent` of the envelope.

``readout:1.204,calibrate:4.511``: seconds that a service had the event that led to this one, by its own monotonic
clock, in the order of the way. What the wall clock counted beyond their sum, nobody worked: the event waited.
"""

#: Text of the attribute; empty when nobody has spent anything.
PATTERN = r"^([a-z_]+:[0-9]+\.[0-9]{3}(,[a-z_]+:[0-9]+\.[0-9]{3})*)?$"

#: Longest text: three times the services that there are.
MAX_LENGTH = 400


def parse(text: str) -> dict[str, float]:
    """Seconds by service, in the order of the way."""
    return {name: float(seconds) for name, _, seconds in (one.partition(":") for one in text.split(",") if one)}


def add(text: str, service: str, seconds: float) -> str:
    """What was spent when a service has spent some seconds more; one that comes again is added up."""
    spent = parse(text)
    spent[service] = spent.get(service, 0.0) + max(seconds, 0.0)
    made = ",".join(f"{name}:{seconds:.3f}" for name, seconds in spent.items())
    return made if len(made) <= MAX_LENGTH else text
