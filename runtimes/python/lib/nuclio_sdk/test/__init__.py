"""For unit tests of functions that were written for Nuclio's SDK; `stator.testing` does more."""

from nuclio_sdk.test.mock_platform import Platform

__all__ = ["Platform"]
