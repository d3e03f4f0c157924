"""As `nuclio_sdk`."""

from stator.event import Event, TriggerInfo

__all__ = ["Event", "TriggerInfo"]
