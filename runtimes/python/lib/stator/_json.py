"""JSON as Nuclio's Python wrapper writes it: ", " and ": " between values, numbers that JSON does
not have as strings, and objects that JSON does not know by `__log__()` or `repr()`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_encoders: dict[bool, Any] = {}


def represent(value: Any) -> Any:
    """What stands for a value that JSON does not know. Never raises an Exception."""
    try:
        return value.__log__()
    except Exception:
        pass
    try:
        return repr(value)
    except Exception as exc:
        return f"Unable to serialize object: {type(exc).__name__}"


def _finite(value: Any) -> Any:
    """A copy with "NaN", "Infinity" and "-Infinity" for the floats that JSON does not have."""
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
    elif isinstance(value, dict):
        return {_finite(key): _finite(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def encode(value: Any, ascii_only: bool = True) -> str:
    """The JSON text. Raises TypeError, ValueError or RecursionError for keys that are no JSON and
    for what contains itself."""
    encoder = _encoders.get(ascii_only)
    if encoder is None:
        import json

        encoder = _encoders[ascii_only] = json.JSONEncoder(
            default=represent, allow_nan=False, ensure_ascii=ascii_only)
    try:
        return encoder.encode(value)
    except ValueError:  # a float that is no number, most likely
        import json

        return json.JSONEncoder(
            default=lambda other: _finite(represent(other)), allow_nan=False,
            ensure_ascii=ascii_only).encode(_finite(value))


def encode_variables(variables: dict[str, Any]) -> str:
    """A JSON object of what a log message comes with; a value that cannot be written is replaced
    by a text that says so. Never raises an Exception."""
    try:
        return encode(variables, ascii_only=False)
    except Exception:
        pass
    safe = {}
    for key, value in variables.items():
        try:
            encode(value)
            safe[key] = value
        except Exception as exc:
            safe[key] = f"Unable to serialize object: {exc}"
    return encode(safe, ascii_only=False)


def to_utf8(text: str) -> bytes:
    """UTF-8; halves of surrogate pairs, which UTF-8 does not have, become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
