"""As `nuclio_sdk`."""

from stator.platform import QualifiedOffset

__all__ = ["QualifiedOffset"]
