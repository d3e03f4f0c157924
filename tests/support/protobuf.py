"""Protobuf for tests: as much as messages of the worker wire need."""


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(ident, value):
    return varint(ident << 3) + varint(value) if value else b""


def text(ident, value):
    value = value if isinstance(value, bytes) else value.encode()
    return varint(ident << 3 | 2) + varint(len(value)) + value


def fields(data):
    """[(number, value)] of a message; values are int or bytes."""
    at, found = 0, []

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = read()
        if tag & 7 == 0:
            found.append((tag >> 3, read()))
        else:
            length = read() if tag & 7 == 2 else 8
            found.append((tag >> 3, data[at:at + length]))
            at += length
    return found
