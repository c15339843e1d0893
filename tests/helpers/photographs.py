"""A picture as a telephone keeps it, and pictures that look like photographs. Knows no fixtures."""

import base64

import numpy as np
from PIL import Image, ImageDraw

# 64 x 48 pixels, white with a red quarter at the top left, kept lying on its side: 587 bytes of HEIC.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAADsAAgAAAAACJwABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
    "5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAADAAAAABAAAAQAAAAAH////wAAAAAgAAAAAAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEA"
    "AQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAGdtZGF0AAAANygBrwngOdvaD7x/iXpoH5Bps//qdl/+y7yHpsE4"
    "Ez3J9qjCQdtwE/CSPhk/pq+Q/1rgUTCT9PwAAAAGRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA="
)


def photograph(width, height, seed=0):
    """Smooth light, the noise of a sensor, and edges."""
    rng = np.random.default_rng(seed)
    down, along = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(along / width * (2 + i) + down / height * 3) for i in range(3)]
    light = np.stack(waves, axis=-1) + rng.normal(0, 8, (height, width, 3))
    picture = Image.fromarray(light.clip(0, 255).astype("uint8"))
    draw = ImageDraw.Draw(picture)
    for x, y, size in rng.integers((0, 0, width // 30), (width, height, width // 5), (40, 3)).tolist():
        draw.ellipse([x, y, x + size, y + size], fill=tuple(rng.integers(0, 256, 3).tolist()))
        draw.line([x, y, x + 2 * size, y - size], fill=tuple(rng.integers(0, 256, 3).tolist()), width=3)
    return picture
