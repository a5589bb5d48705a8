"""Types of the compiled part of nbd_extents. The docstrings are in the objects themselves."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, ClassVar, Final, Literal, SupportsIndex, Union, final

#: Entries in any shape: a flat list of numbers, tuples of (length, flags), a buffer of 32-bit or
#: 64-bit integers, or a pair of buffers. A buffer has no type in Python 3.9, hence Any.
Entries = Union[Iterable[SupportsIndex], Iterable[Sequence[SupportsIndex]], Any]
Progress = Callable[[int, int], object]
Action = Literal["copy", "zero", "skip"]

@final
class Extent:
    __match_args__ = ("start", "length", "dirty", "zero", "hole")
    def __new__(
        cls,
        start: SupportsIndex,
        length: SupportsIndex,
        dirty: bool | None = None,
        zero: bool | None = None,
        hole: bool | None = None,
        *,
        depth: SupportsIndex | None = None,
        bitmaps: SupportsIndex | None = None,
    ) -> Extent: ...
    start: Final[int]
    length: Final[int]
    end: Final[int]
    dirty: Final[bool | None]
    zero: Final[bool | None]
    hole: Final[bool | None]
    depth: Final[int | None]
    bitmaps: Final[int]
    def __iter__(self) -> Iterator[Any]: ...

@final
class Step:
    __match_args__ = ("action", "start", "length")
    action: Final[Action]
    start: Final[int]
    length: Final[int]
    end: Final[int]
    def __iter__(self) -> Iterator[Any]: ...

@final
class Source:
    start: Final[int]
    length: Final[int]
    action: Final[Action]
    layer: Final[int | None]

@final
class Map:
    size: Final[int]
    start: Final[int]
    end: Final[int]
    disk_size: Final[int]
    bitmaps: Final[tuple[str, ...]]
    memory_usage: Final[int]
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Extent]: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def at(self, offset: SupportsIndex) -> Extent: ...
    def slice(self, start: SupportsIndex, end: SupportsIndex | None = None) -> Map: ...
    def columns(self, *names: str) -> dict[str, memoryview]: ...
    def diff(self, after: Map) -> list[tuple[Extent | None, Extent | None]]: ...
    def actions(self, *, previous_size: SupportsIndex | None = None, grown: bool = False) -> list[Step]: ...
    def totals(
        self, *, previous_size: SupportsIndex | None = None, grown: bool = False
    ) -> dict[str, int]: ...
    def plan(
        self,
        *,
        block_size: SupportsIndex = 1,
        max_copy: SupportsIndex = ...,
        max_zero: SupportsIndex = ...,
        join_gaps: SupportsIndex = 0,
        dirty_only: bool = False,
        previous_size: SupportsIndex | None = None,
        grown: bool = False,
    ) -> list[Step]: ...
    def to_json(self, format: str = "imageio") -> str: ...
    def to_format(self, format: str, *, lossy: bool = False) -> str: ...
    @staticmethod
    def from_format(text: str | bytes, format: str, *, size: SupportsIndex | None = None) -> Map: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes) -> Map: ...

@final
class Request:
    id: Final[int]
    offset: Final[int]
    length: Final[int]

@final
class Survey:
    def __new__(cls, size: SupportsIndex, contexts: Iterable[str], *, read_only: bool = True) -> Survey: ...
    position: Final[int]
    def next_request(self) -> Request | None: ...
    def extents(self, request: Request, context: str, offset: SupportsIndex, entries: Entries) -> None: ...
    def reply_done(self, request: Request) -> None: ...
    def reply_failed(self, request: Request) -> None: ...
    def read(self) -> list[Extent]: ...
    def complete(self) -> None: ...

@final
class Client:
    def __new__(
        cls, uri: str, *, connect_timeout: float | None = None, request_timeout: float | None = None
    ) -> Client: ...
    size: Final[int]
    read_only: Final[bool]
    minimum_block: Final[int]
    def read(self, offset: SupportsIndex, length: SupportsIndex) -> bytes: ...
    def write(self, offset: SupportsIndex, data: bytes | bytearray | memoryview) -> None: ...
    def zero(self, offset: SupportsIndex, length: SupportsIndex) -> None: ...
    def flush(self) -> None: ...
    def blocks(
        self, ranges: Iterable[Step | tuple[SupportsIndex, SupportsIndex]]
    ) -> Iterator[tuple[int, bytes]]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Client: ...
    def __exit__(self, *error: object) -> None: ...

def survey(
    uri: str,
    bitmaps: Iterable[str] = (),
    *,
    bitmap_first: bool = False,
    depth: bool = False,
    offset: SupportsIndex = 0,
    length: SupportsIndex | None = None,
    timeout: float | None = None,
    request_timeout: float | None = None,
    allow_writable: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> Map: ...
def merge(dirty: Entries, zero: Entries, *, start: SupportsIndex = 0) -> Map: ...
def backup(
    uri: str,
    file: str | PathLike[str],
    bitmaps: Iterable[str] = (),
    *,
    checkpoint: str | None = None,
    after: str | PathLike[str] | None = None,
    parent: str | None = None,
    previous_size: SupportsIndex | None = None,
    grown: bool = False,
    force: bool = False,
    bitmap_first: bool = False,
    detect_zeroes: bool = False,
    connections: SupportsIndex = 1,
    allow_writable: bool = False,
    timeout: float | None = None,
    request_timeout: float | None = None,
    progress: Progress | None = None,
) -> dict[str, int]: ...
def restore(
    uri: str,
    files: Iterable[str | PathLike[str]],
    *,
    base: str | None = None,
    target_is_zero: bool = False,
    connections: SupportsIndex = 1,
    timeout: float | None = None,
    request_timeout: float | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]: ...
def verify(files: Iterable[str | PathLike[str]]) -> list[dict[str, Any]]: ...
def chain(layers: Iterable[tuple[str, str | None, Map]]) -> list[Source]: ...
def formats() -> tuple[str, ...]: ...
