"""As `nuclio_sdk`."""

from stator.context import Context

__all__ = ["Context"]
