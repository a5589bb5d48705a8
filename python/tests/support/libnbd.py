"""Objects of the shape in which libnbd and ovirt-imageio show a connection, over the tests' client."""

from collections import namedtuple

from .client import Client

Extent = namedtuple("Extent", "length flags")


class Handle:
    """The part of libnbd's `NBD` that extent handlers use: flat lists, or tuples as of 1.20."""

    def __init__(self, path, contexts, *, tuples=False):
        self.client = Client(path, contexts)
        self.tuples = tuples

    def get_size(self):
        return self.client.size

    def block_status(self, count, offset, extent):
        for context, pairs in self.client.block_status(offset, count).items():
            flat = [number for pair in pairs for number in pair]
            extent(context, offset, pairs if self.tuples else flat, 0)


class ImageioClient:
    """The part of ovirt-imageio's `nbd.Client` that its `nbdutil` uses."""

    def __init__(self, path, dirty_bitmap=None):
        self.dirty_bitmap = dirty_bitmap
        self.client = Client(path, ["base:allocation"] + ([dirty_bitmap] if dirty_bitmap else []))
        self.export_size = self.client.size

    def extents(self, offset, length):
        reply = self.client.block_status(offset, length)
        return {context: [Extent(*pair) for pair in pairs] for context, pairs in reply.items()}
