"""Restores sparse streams onto a new raw file.

`restore.py DISK STREAM...` prints the meta frame of each stream, one JSON object a line. It reads as
ovirt-imageio's reader does: frames of 40 bytes, split at two spaces, the meta frame first, until the stop
frame. It shares no code with the crates under test.
"""

import json
import sys

disk, *streams = sys.argv[1:]
with open(disk, "wb") as out:
    for name in streams:
        with open(name, "rb") as stream:

            def frame():
                header = stream.read(40)
                assert len(header) == 40 and header.endswith(b"\r\n"), header
                kind, start, length = header.split(b" ", 2)
                return kind, int(start, 16), int(length, 16)

            kind, start, length = frame()
            assert (kind, start) == (b"meta", 0)
            meta = json.loads(stream.read(length))
            assert stream.read(2) == b"\r\n"
            assert {"virtual-size", "data-size", "date", "incremental"} <= set(meta), meta
            print(json.dumps(meta))
            out.truncate(meta["virtual-size"])
            data = 0
            while True:
                kind, start, length = frame()
                if kind == b"stop":
                    break
                assert kind in (b"data", b"zero"), kind
                out.seek(start)
                if kind == b"data":
                    out.write(stream.read(length))
                    assert stream.read(2) == b"\r\n"
                    data += length
                else:
                    out.write(b"\0" * length)
            assert data == meta["data-size"], (data, meta)
            assert stream.read() == b""
