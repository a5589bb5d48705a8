"""A client in pure Python: the independent judge of what a live server says.

It asks for one extent of one context at a time, so that nothing has to be merged.
"""

import socket
import struct

from . import wire


class Client:
    """A connection that has negotiated structured replies and `contexts`, in this order."""

    def __init__(self, path, contexts, export=""):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        assert wire.receive(self.sock, 16) == wire.HELLO + wire.OPTION
        wire.unpack(self.sock, ">H")
        self.sock.sendall(struct.pack(">I", 3))
        assert self._option(wire.OPT_STRUCTURED_REPLY, b"")[-1][0] == wire.REP_ACK
        queries = struct.pack(">I", len(contexts)) + b"".join(map(wire.string, contexts))
        replies = self._option(wire.OPT_SET_META, wire.string(export) + queries)
        self.names = {
            struct.unpack(">I", data[:4])[0]: data[4:].decode()
            for kind, data in replies
            if kind == wire.REP_META
        }
        assert sorted(self.names.values()) == sorted(contexts), self.names
        for kind, data in self._option(wire.OPT_GO, wire.string(export) + b"\0\0"):
            if kind == wire.REP_INFO and data[:2] == b"\0\0":
                self.size, self.flags = struct.unpack(">QH", data[2:12])
        self.cookie = 0

    def _option(self, option, data):
        """Sends an option; all replies to it, up to the last."""
        self.sock.sendall(wire.OPTION + struct.pack(">II", option, len(data)) + data)
        replies = []
        while True:
            magic, _, kind, length = wire.unpack(self.sock, ">QIII")
            assert magic == wire.OPTION_REPLY
            replies.append((kind, wire.receive(self.sock, length)))
            if kind == wire.REP_ACK or kind & 0x80000000:
                return replies

    def block_status(self, offset, length, flags=0):
        """The descriptors of each context from `offset` on: a dict of lists of (length, flags)."""
        self.cookie += 1
        request = (wire.REQUEST, flags, wire.CMD_BLOCK_STATUS, self.cookie, offset, length)
        self.sock.sendall(struct.pack(">IHHQQI", *request))
        answers, done = {}, 0
        while not done:
            magic, chunk, kind, cookie, length = wire.unpack(self.sock, ">IHHQI")
            assert (magic, cookie) == (wire.REPLY, self.cookie)
            payload = wire.receive(self.sock, length)
            if kind == wire.CHUNK_ERROR:
                raise OSError(struct.unpack(">I", payload[:4])[0], "the server failed a request")
            if kind == wire.CHUNK_BLOCK_STATUS:
                (context,) = struct.unpack(">I", payload[:4])
                pairs = struct.unpack(f">{(length - 4) // 4}I", payload[4:])
                answers[self.names[context]] = list(zip(pairs[::2], pairs[1::2]))
            done = chunk & wire.CHUNK_DONE
        return answers

    def close(self):
        self.sock.sendall(struct.pack(">IHHQQI", wire.REQUEST, 0, wire.CMD_DISC, 0, 0, 0))
        self.sock.close()


def flags_by_block(path, context, block=512):
    """The flags of a context for each block of a disk, asked one extent at a time."""
    client = Client(path, [context])
    flags, offset = [], 0
    while offset < client.size:
        asked = min(client.size - offset, 1 << 30)
        ((length, value),) = client.block_status(offset, asked, wire.FLAG_REQ_ONE)[context]
        assert length % block == 0, "the model's blocks are too large"
        length = min(length, asked)
        flags += [value] * (length // block)
        offset += length
    client.close()
    return flags
