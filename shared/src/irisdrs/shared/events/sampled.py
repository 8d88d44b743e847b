"""What the events that say a sampling mode have in common: version 2 knows more modes than version 1."""

from abc import abstractmethod

from irisdrs.shared.events.event import Event
from irisdrs.shared.identifiers import SamplingMode

#: The modes that version 1 can say.
VERSION_1_MODES = (SamplingMode.CDS, SamplingMode.UTR)


class Sampled(Event):
    """A fact about something that is, or was, read out in a sampling mode.

    Services of the release before read version 1 only, so what it can say is told as it (`shared/decisions/0007`).
    """

    version = 2

    @property
    @abstractmethod
    def mode_said(self) -> SamplingMode:
        """The sampling mode that it says."""

    @classmethod
    def told_versions(cls) -> tuple[int, ...]:
        return (1, 2)

    @property
    def told_version(self) -> int:
        return 1 if self.mode_said in VERSION_1_MODES else 2

    @classmethod
    def from_previous(cls, data: dict[str, object]) -> dict[str, object]:
        return data  # all that version 1 says, version 2 says in the same words
