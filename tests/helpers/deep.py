"""Pictures of more than 8 bits a sample, drawn and written as microscopes, scanners and depth cameras write them.

Knows no fixtures.
"""

import struct
import zlib

import numpy as np
from PIL import Image


def blobs(bands=1, seed=0, size=(96, 72), top=4095):
    """Soft blobs on a dark ground: uint16 ``[H, W, bands]`` that reach to ``top``."""
    chance, (width, height) = np.random.default_rng(seed), size
    y, x = np.mgrid[0:height, 0:width]
    layers = []
    for _ in range(bands):
        light = np.full((height, width), 0.2)
        for _ in range(5):
            left, down = chance.integers(10, width - 10), chance.integers(10, height - 10)
            light += chance.uniform(0.3, 0.8) * np.exp(-((x - left) ** 2 + (y - down) ** 2) / 120)
        layers.append(light / light.max())
    return np.rint(np.stack(layers, axis=-1) * top).astype(np.uint16)


def scaled(samples, top=4095):
    """What a person expects of samples that reach to ``top``: uint8 of the same shape."""
    return np.floor(samples * (255 / top) + 0.5).astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, alpha=None):
    """A PNG of 16 bits of uint16 ``[H, W, 1 or 3]``; each row is filtered in another one of the five ways."""
    bands = samples if alpha is None else np.concatenate([samples, alpha[..., None]], axis=-1)
    height, width, count = bands.shape
    rows = bands.astype(">u2").tobytes()
    stride, step, data = 2 * count * width, 2 * count, bytearray()
    for row in range(height):
        now, above = (np.frombuffer(rows, "u1", stride, at * stride).astype(int) for at in (row, max(row - 1, 0)))
        above = above if row else np.zeros(stride, int)
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (now, above))
        near = left + above - corner
        apart = np.stack([abs(near - left), abs(near - above), abs(near - corner)])
        paeth = np.choose(apart.argmin(0), [left, above, corner])
        guess = [0 * now, left, above, (left + above) // 2, paeth][row % 5]
        data += bytes([row % 5]) + ((now - guess) % 256).astype("u1").tobytes()
    kind = {1: 0, 3: 2}[samples.shape[-1]] + 4 * (alpha is not None)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(data))) + chunk(b"IEND", b"")


def tiff(samples, order="<", packed=False):
    """A TIFF of 16 bits of uint16 ``[H, W, 3]``."""
    height, width, bands = samples.shape
    data = samples.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if packed else data
    begin, count = 8 + 2 + 12 * 11 + 4 + 6, len(data)
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, begin - 6), (259, 3, 1, 8 if packed else 1),
        (262, 3, 1, 2), (273, 4, 1, begin), (277, 3, 1, bands), (278, 4, 1, height), (279, 4, 1, count),
        (284, 3, 1, 1), (339, 3, 1, 1),
    ]  # fmt: skip
    entries = b""
    for tag, kind, many, value in tags:
        held = struct.pack(order + ("H2x" if kind == 3 and many == 1 else "I"), value)
        entries += struct.pack(order + "HHI", tag, kind, many) + held
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    depths = struct.pack(order + "3H", 16, 16, 16)
    return head + struct.pack(order + "H", len(tags)) + entries + bytes(4) + depths + data


def deep_files(folder):
    """Files of every kind, by their paths, with what 8 bits of each are: uint8 ``[H, W, 3]``."""
    folder.mkdir(parents=True, exist_ok=True)
    grey, colours = blobs()[..., 0], blobs(3, seed=1)
    signed, light = grey.astype(np.int16) - 1000, (grey / np.float32(4095)).astype(np.float32)
    full = np.full(grey.shape, 65535, np.uint16)
    third = np.dstack([scaled(grey)] * 3)
    files = {}

    def put(name, content, wanted):
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            Image.fromarray(content).save(folder / name)
        files[folder / name] = wanted

    put("grey.png", grey, third)
    put("filtered.png", png(grey[..., None]), third)
    put("grey.tif", grey, third)
    put("grey.pgm", grey, third)
    put("shares.tif", light, third)
    low, high = int(signed.min()), int(signed.max())
    put("signed.tif", signed.astype(np.int32), np.dstack([scaled(signed - float(low), high - low)] * 3))
    put("colours.png", png(colours), scaled(colours))
    put("clear.png", png(colours, full), scaled(colours))
    put("clear-grey.png", png(grey[..., None], full), third)
    for order, packed in (("<", False), (">", False), ("<", True), (">", True)):
        put(f"colours{'-little' if order == '<' else '-big'}{'-packed' * packed}.tif", tiff(colours, order, packed),
            scaled(colours))  # fmt: skip
    return files
