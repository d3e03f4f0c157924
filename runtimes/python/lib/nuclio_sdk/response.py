"""As `nuclio_sdk`."""

from stator.response import Response

__all__ = ["Response"]
