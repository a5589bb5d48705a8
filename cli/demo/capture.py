#!/usr/bin/env python3
"""Makes the demo's disk, serves it with qemu-nbd, and records the replies to one block status
request, byte for byte.

Writes compact.hex (structured replies) and extended.hex (extended headers) beside this file. Needs
qemu-img, qemu-io and qemu-nbd.
"""

import os
import socket
import struct
import subprocess
import tempfile
import time

BITMAP = "bitmap0"
CONTEXTS = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:" + BITMAP]
OPT_GO, OPT_STRUCTURED, OPT_SET_META, OPT_EXTENDED = 7, 8, 10, 11
REP_ACK, REP_INFO, REP_META = 1, 3, 4


def make_image(path):
    """The recipe: data, then a checkpoint, then data, zeroes kept allocated, and zeroes discarded."""
    run = lambda *args: subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "6M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 4M 1M", path)
    run("qemu-img", "bitmap", "--add", path, BITMAP)
    changes = ["-c", "write -P 3 1M 64k", "-c", "write -z 4M 512k", "-c", "write -zu 2M 1M"]
    run("qemu-io", "-f", "qcow2", *changes, path)


def exactly(sock, count):
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def option(sock, number, data=b""):
    """Sends an option and returns its replies before the final ACK."""
    sock.sendall(struct.pack(">QII", 0x49484156454F5054, number, len(data)) + data)
    replies = []
    while True:
        _, _, kind, length = struct.unpack(">QIII", exactly(sock, 20))
        payload = exactly(sock, length)
        if kind == REP_ACK:
            return replies
        if kind & 1 << 31:
            raise RuntimeError("option %d refused: %r" % (number, payload))
        replies.append((kind, payload))


def record(path, extended):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    exactly(sock, 18)
    sock.sendall(struct.pack(">I", 3))
    option(sock, OPT_EXTENDED if extended else OPT_STRUCTURED)
    string = lambda text: struct.pack(">I", len(text)) + text.encode()
    query = string("") + struct.pack(">I", len(CONTEXTS)) + b"".join(map(string, CONTEXTS))
    granted = [p for kind, p in option(sock, OPT_SET_META, query) if kind == REP_META]
    contexts = [(struct.unpack(">I", p[:4])[0], p[4:].decode()) for p in granted]
    answers = option(sock, OPT_GO, string("") + struct.pack(">H", 0))
    infos = [p for kind, p in answers if kind == REP_INFO and p[:2] == b"\0\0"]
    size = struct.unpack(">Q", infos[0][2:10])[0]
    if extended:
        sock.sendall(struct.pack(">IHHQQQ", 0x21E41C71, 0, 7, 1, 0, size))
    else:
        sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 7, 1, 0, size))
    lines = ["size %d" % size] + ["context %d %s" % context for context in contexts]
    done = False
    while not done:
        header = exactly(sock, 32 if extended else 20)
        flags = struct.unpack(">H", header[4:6])[0]
        length = int.from_bytes(header[24 if extended else 16:], "big")
        lines.append("payload " + exactly(sock, length).hex())
        done = flags & 1
    sock.close()
    return "\n".join(lines) + "\n"


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        image, path = os.path.join(folder, "disk.qcow2"), os.path.join(folder, "sock")
        make_image(image)
        options = ["-r", "-t", "-e", "8", "-A", "-B", BITMAP, "-f", "qcow2", "-k", path]
        server = subprocess.Popen(["qemu-nbd", *options, image])
        try:
            while not os.path.exists(path):
                time.sleep(0.05)
            for name, extended in [("compact.hex", False), ("extended.hex", True)]:
                with open(os.path.join(here, name), "w") as out:
                    out.write(record(path, extended))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
