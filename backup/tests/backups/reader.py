"""A reader of sparse streams, written from backup/src/sparse_stream/FORMAT.md alone.

It reads lines from standard input. Each is a JSON list of the files of one chain, oldest first. For
each it prints one line: "refused" and why, or "restored" and the bytes of the restored disk, in
hexadecimal digits.
"""

import json
import re
import sys

from xxh3 import xxh3_128

MAX_DISK = 2**63 - 1
REQUIRED = {"virtual-size": int, "data-size": int, "date": str, "incremental": bool}
OPTIONAL = {
    "checkpoint": str,
    "parent": str,
    "parent-size": int,
    "parent-checksum": str,
    "disk": str,
    "data-size-is-limit": bool,
    "checksum": str,
}
HEADER = re.compile(rb"(meta|data|zero|stop) ([0-9a-fA-F]{16}) ([0-9a-fA-F]{16})\r\n", re.DOTALL)


class Fault(Exception):
    pass


def require(condition, what):
    if not condition:
        raise Fault(what)


def read_meta(text):
    def pairs(items):
        keys = [key for key, _ in items]
        for key in {**REQUIRED, **OPTIONAL}:
            require(keys.count(key) <= 1, f"{key} is there twice")
        return dict(items)

    def no_constant(name):
        raise Fault(f"{name} is not JSON")

    try:
        meta = json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Fault(f"the JSON: {error}") from error
    require(isinstance(meta, dict), "the JSON is not an object")
    meta = {key: value for key, value in meta.items() if not (value is None and key in OPTIONAL)}
    for key in REQUIRED:
        require(key in meta, f"there is no {key}")
    for key, kind in {**REQUIRED, **OPTIONAL}.items():
        require(key not in meta or type(meta[key]) is kind, f"{key} has another type")
        if kind is int and key in meta:
            require(0 <= meta[key] <= MAX_DISK, f"{key} is no size")
    require(meta["data-size"] <= meta["virtual-size"], "more data than disk")
    if not meta["incremental"]:
        require(not meta.keys() & {"parent", "parent-size", "parent-checksum"}, "a full backup with a parent")
    if "parent-checksum" in meta:
        require(re.fullmatch(r"[0-9a-fA-F]{32}", meta["parent-checksum"]), "parent-checksum has 32 digits")
    require(meta.get("checksum", "xxh3-128") == "xxh3-128", "an unknown checksum")
    return meta


class Stream:
    """A sound stream: its meta frame, its frames, its checksum."""

    def __init__(self, data):
        self.data = data
        self.at = 0
        self.frames = []
        kind, first, length = self.header()
        require(kind == b"meta" and first == 0 and 1 <= length <= 65536, "no meta frame")
        self.meta = read_meta(self.take(length))
        self.line_end()
        position = carried = 0
        while True:
            begin = self.at
            kind, start, length = self.header()
            if kind == b"stop":
                break
            require(kind != b"meta", "a second meta frame")
            require(length >= 1, "an empty frame")
            require(start >= position, "a frame goes back")
            self.covered(position, start)
            position = start + length
            require(position <= self.meta["virtual-size"], "a frame leaves the disk")
            payload = None
            if kind == b"data":
                carried += length
                require(carried <= self.meta["data-size"], "too much data")
                payload = self.take(length)
                self.line_end()
            self.frames.append((start, length, payload))
        self.covered(position, self.meta["virtual-size"])
        require(self.at == len(data), "bytes after the stop frame")
        has_checksum = "checksum" in self.meta
        is_exact = not self.meta["incremental"] or has_checksum
        if is_exact and not self.meta.get("data-size-is-limit", False):
            require(carried == self.meta["data-size"], "too little data")
        self.checksum = None
        if has_checksum:
            require((start, length) != (0, 0), "no checksum")
            require((start, length) == xxh3_128(data[:begin]), "the checksum differs")
            self.checksum = f"{start:016x}{length:016x}"
        else:
            require((start, length) == (0, 0), "a checksum that the meta frame does not have")

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        require(len(piece) == count, "the stream is cut")
        self.at += count
        return piece

    def header(self):
        match = HEADER.fullmatch(self.take(40))
        require(match, "not a header")
        return match[1], int(match[2], 16), int(match[3], 16)

    def line_end(self):
        require(self.take(2) == b"\r\n", "a payload without its line end")

    def covered(self, position, start):
        """No byte from position to start may be one that must be covered."""
        first = self.meta.get("parent-size", MAX_DISK + 1) if self.meta["incremental"] else 0
        require(max(position, first) >= start, "bytes are left out")


def check_chain(streams):
    require(not streams[0].meta["incremental"], "the first stream is an incremental")
    for kind in ("checkpoint", "checksum"):
        names = [stream.meta.get(kind) if kind == "checkpoint" else stream.checksum for stream in streams]
        names = [name for name in names if name is not None]
        require(len(names) == len(set(names)), f"the same {kind} twice")
    for before, stream in zip(streams, streams[1:]):
        meta = stream.meta
        require(meta["incremental"], "a full backup inside of the chain")
        checksum = meta.get("parent-checksum")
        for what, mine, other in (
            ("disk", meta.get("disk"), before.meta.get("disk")),
            ("parent", meta.get("parent"), before.meta.get("checkpoint")),
            ("parent-size", meta.get("parent-size"), before.meta["virtual-size"]),
            ("parent-checksum", checksum and checksum.lower(), before.checksum),
        ):
            require(mine is None or other is None or mine == other, f"another {what}")


def apply(streams):
    """The disk after all streams. Bytes that no stream has are None until one writes them."""
    disk = []
    for stream in streams:
        size = stream.meta["virtual-size"]
        disk = (disk + [None] * size)[:size]
        for start, length, payload in stream.frames:
            disk[start : start + length] = payload if payload is not None else bytes(length)
    require(None not in disk, "bytes by which the disk has grown are in no stream")
    return bytes(disk)


def main():
    for line in sys.stdin:
        try:
            streams = []
            for name in json.loads(line):
                with open(name, "rb") as file:
                    streams.append(Stream(file.read()))
            check_chain(streams)
            print("restored", apply(streams).hex())
        except Fault as fault:
            print("refused", fault)


main()
