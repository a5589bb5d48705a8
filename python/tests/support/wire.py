"""The numbers of the NBD protocol that the tests' own client and server need.

Both are written from the protocol's text and share no code with the package under test.
"""

import struct

HELLO = b"NBDMAGIC"
OPTION = b"IHAVEOPT"
OPTION_REPLY = 0x3E889045565A9
REQUEST = 0x25609513
REPLY = 0x668E33EF

OPT_ABORT, OPT_GO, OPT_STRUCTURED_REPLY, OPT_LIST_META, OPT_SET_META = 2, 7, 8, 9, 10
REP_ACK, REP_INFO, REP_META = 1, 3, 4
REP_ERR_UNSUP, REP_ERR_UNKNOWN = 0x80000001, 0x80000006

CMD_READ, CMD_DISC, CMD_BLOCK_STATUS = 0, 2, 7
FLAG_REQ_ONE = 1 << 3
FLAG_READ_ONLY = 1 << 1
CHUNK_DONE = 1
CHUNK_BLOCK_STATUS, CHUNK_ERROR = 5, 0x8001


def receive(sock, length):
    """Exactly `length` bytes; ConnectionError where the other side ends before them."""
    data = bytearray()
    while len(data) < length:
        piece = sock.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise ConnectionError("the other side closed the connection")
        data += piece
    return bytes(data)


def unpack(sock, layout):
    return struct.unpack(layout, receive(sock, struct.calcsize(layout)))


def string(text):
    data = text.encode()
    return struct.pack(">I", len(data)) + data
