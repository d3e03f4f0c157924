"""As `nuclio_sdk`."""

from stator.platform import Platform

__all__ = ["Platform"]
