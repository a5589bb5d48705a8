"""XXH3 with 128 bits, seed 0 and the default secret, from the xxHash specification.

It takes inputs of 17 bytes and more, for no stream is shorter. It is slow, and shares no code with any
other implementation.
"""

import struct

MASK = (1 << 64) - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F
P64_3, P64_4, P64_5 = 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
STRIPE = 64
BLOCK = 16 * STRIPE


def word(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def words(data, at):
    return struct.unpack_from("<8Q", data, at)


def fold(one, other):
    product = one * other
    return (product & MASK) ^ (product >> 64)


def avalanche(value):
    value ^= value >> 37
    value = value * 0x165667919E3779F9 & MASK
    return value ^ value >> 32


def mix16(data, at, secret):
    return fold(word(data, at) ^ word(SECRET, secret), word(data, at + 8) ^ word(SECRET, secret + 8))


def mix32(low, high, data, first, second, secret):
    low = (low + mix16(data, first, secret)) & MASK
    low ^= (word(data, second) + word(data, second + 8)) & MASK
    high = (high + mix16(data, second, secret + 16)) & MASK
    high ^= (word(data, first) + word(data, first + 8)) & MASK
    return low, high


def medium(data):
    """Of 17 to 240 bytes."""
    size = len(data)
    low, high = size * P64_1 & MASK, 0
    if size <= 128:
        for nth in reversed(range((size - 1) // 32 + 1)):
            low, high = mix32(low, high, data, 16 * nth, size - 16 * (nth + 1), 32 * nth)
    else:
        for nth in range(4):
            low, high = mix32(low, high, data, 32 * nth, 32 * nth + 16, 32 * nth)
        low, high = avalanche(low), avalanche(high)
        for nth in range(4, size // 32):
            low, high = mix32(low, high, data, 32 * nth, 32 * nth + 16, 3 + 32 * (nth - 4))
        low, high = mix32(low, high, data, size - 16, size - 32, 136 - 17 - 16)
    sum_low = avalanche((low + high) & MASK)
    sum_high = avalanche((low * P64_1 + high * P64_4 + size * P64_2) & MASK)
    return sum_low, -sum_high & MASK


def accumulate(lanes, data, at, secret):
    values, keys = words(data, at), words(SECRET, secret)
    for nth in range(8):
        value = values[nth]
        keyed = value ^ keys[nth]
        lanes[nth ^ 1] = (lanes[nth ^ 1] + value) & MASK
        lanes[nth] = (lanes[nth] + (keyed & 0xFFFFFFFF) * (keyed >> 32)) & MASK


def long(data):
    """Of more than 240 bytes."""
    size = len(data)
    lanes = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    blocks = (size - 1) // BLOCK
    for block in range(blocks):
        for stripe in range(16):
            accumulate(lanes, data, block * BLOCK + stripe * STRIPE, 8 * stripe)
        keys = words(SECRET, len(SECRET) - STRIPE)
        lanes = [(lane ^ lane >> 47 ^ key) * P32_1 & MASK for lane, key in zip(lanes, keys)]
    for stripe in range((size - 1 - blocks * BLOCK) // STRIPE):
        accumulate(lanes, data, blocks * BLOCK + stripe * STRIPE, 8 * stripe)
    accumulate(lanes, data, size - STRIPE, len(SECRET) - STRIPE - 7)

    def merge(secret, result):
        for nth in range(4):
            keys = word(SECRET, secret + 16 * nth), word(SECRET, secret + 16 * nth + 8)
            result += fold(lanes[2 * nth] ^ keys[0], lanes[2 * nth + 1] ^ keys[1])
        return avalanche(result & MASK)

    low = merge(11, size * P64_1 & MASK)
    high = merge(len(SECRET) - STRIPE - 11, ~(size * P64_2) & MASK)
    return low, high


def xxh3_128(data):
    """The two halves of the checksum, the most significant first."""
    assert len(data) >= 17, "no stream is so short"
    low, high = medium(data) if len(data) <= 240 else long(data)
    return high, low
