"""Reading a message without knowing what it is."""

import struct


def fields(data):
    """(number, value) pairs of a message; integers, doubles and bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        elif tag & 7 == 1:
            yield tag >> 3, struct.unpack_from("<d", data, at)[0]
            at += 8
        else:
            assert tag & 7 == 2, tag
            length = varint()
            yield tag >> 3, data[at : at + length]
            at += length
