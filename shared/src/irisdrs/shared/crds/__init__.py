"""CRDS for IRIS: the TMT observatory that the unforked `crds` client loads, and contexts built around references."""

from irisdrs.shared.crds.registration import client_environment, register

__all__ = ["client_environment", "register"]
