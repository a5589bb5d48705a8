"""A scripted server: it negotiates well, and then a function of the test answers each request."""

import contextlib
import socket
import struct
import threading

from . import wire


class Conn:
    """One connection after the handshake. `answer` and `fail` reply, `send` sends any bytes."""

    def __init__(self, sock, size, contexts, flags):
        self.sock = sock
        self.size, self.contexts, self.flags = size, contexts, flags

    def send(self, data):
        self.sock.sendall(data)

    def handshake(self):
        """Goes through the options up to GO; False if the client left."""
        self.send(wire.HELLO + wire.OPTION + struct.pack(">H", 3))
        wire.unpack(self.sock, ">I")
        while True:
            magic, option, length = wire.unpack(self.sock, ">8sII")
            assert magic == wire.OPTION
            data = wire.receive(self.sock, length)
            if option == wire.OPT_ABORT:
                return False
            if option == wire.OPT_GO:
                self._reply(option, wire.REP_INFO, struct.pack(">HQH", 0, self.size, self.flags))
                self._reply(option, wire.REP_ACK)
                return True
            self._agree(option, data)

    def _agree(self, option, data):
        if option == wire.OPT_STRUCTURED_REPLY:
            self._reply(option, wire.REP_ACK)
        elif option in (wire.OPT_SET_META, wire.OPT_LIST_META):
            wanted = [name for name in self.contexts if name.encode() in data]
            for name in wanted if option == wire.OPT_SET_META else self.contexts:
                number = struct.pack(">I", self.contexts.index(name))
                self._reply(option, wire.REP_META, number + name.encode())
            self._reply(option, wire.REP_ACK)
        else:
            self._reply(option, wire.REP_ERR_UNSUP)

    def _reply(self, option, kind, data=b""):
        self.send(struct.pack(">QIII", wire.OPTION_REPLY, option, kind, len(data)) + data)

    def requests(self):
        """The requests, as (command, cookie, offset, length), until the client says goodbye."""
        while True:
            magic, _, command, cookie, offset, length = wire.unpack(self.sock, ">IHHQQI")
            assert magic == wire.REQUEST
            if command == wire.CMD_DISC:
                return
            yield command, cookie, offset, length

    def answer(self, cookie, context, entries, done=True):
        numbers = [number for entry in entries for number in entry]
        payload = struct.pack(f">I{len(numbers)}I", context, *numbers)
        self.chunk(cookie, wire.CHUNK_BLOCK_STATUS, payload, done)

    def fail(self, cookie, errno):
        self.chunk(cookie, wire.CHUNK_ERROR, struct.pack(">IH", errno, 0))

    def chunk(self, cookie, kind, payload, done=True):
        header = (wire.REPLY, wire.CHUNK_DONE if done else 0, kind, cookie, len(payload))
        self.send(struct.pack(">IHHQI", *header) + payload)


@contextlib.contextmanager
def serve(path, script, *, size=1 << 20, contexts=("base:allocation",), flags=1 | wire.FLAG_READ_ONLY):
    """Runs `script(conn)` for each connection that is made to a unix socket; its URI."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run(sock):
        # a client that leaves in the middle is a part of many tests
        with sock, contextlib.suppress(OSError):
            script(Conn(sock, size, list(contexts), flags))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=run, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"nbd+unix:///?socket={path}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def honest(conn, entries=((1 << 30, 0),)):
    """A script that negotiates, and says the same of every request."""
    if conn.handshake():
        for _, cookie, _, _ in conn.requests():
            for context in range(len(conn.contexts)):
                conn.answer(cookie, context, entries, done=context + 1 == len(conn.contexts))
