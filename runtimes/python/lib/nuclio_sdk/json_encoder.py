"""JSON as log messages and results are written."""

from __future__ import annotations

import json
from typing import Any

from stator import _json


class Encoder(json.JSONEncoder):
    """Objects by `__log__()` or `repr()`, numbers that JSON does not have as strings."""

    def default(self, obj: Any) -> Any:
        return _json.represent(obj)

    def encode(self, obj: Any) -> str:
        return _json.encode(obj)
