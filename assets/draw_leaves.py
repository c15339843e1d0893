"""Draw the sample pictures: leaves that are healthy, or carry rust, or carry mildew.

    python assets/draw_leaves.py

writes ``leaves/healthy``, ``leaves/rust`` and ``leaves/mildew`` beside this file anew, 30 JPEGs each. Nothing
is photographed: an outline, a light and a handful of noise fields make each picture, drawn three times too
large and scaled down. The seed is fixed, so the same versions of Pillow and numpy draw the same files.
"""

import colorsys
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SEED = 20
COUNT = 30
OVER = 3  # drawn this many times too large
QUALITY = 84
CLASSES = ("healthy", "rust", "mildew")
KINDS = ("one",) * 7 + ("few",) * 2 + ("sprig",)
SHAPES = ("lanceolate", "ovate", "heart", "lobed", "palmate")
FAR = ("greenery", "sky")  # too far behind the leaf to take its shadow
PALM = ((0.0, 0.70), (0.95, 0.58), (-0.95, 0.58), (2.05, 0.36), (-2.05, 0.36))  # a palmate leaf's lobes


@dataclass
class Leaf:
    """One leaf: where its base lies, in pixels, where it points, and what it looks like."""

    shape: str
    x: float
    y: float
    angle: float
    length: float
    width: float
    bend: float
    teeth: int
    veins: int
    colour: np.ndarray
    stalk: float
    quilt: float
    fold: float


# Fields: arrays of height by width, most of them between 0 and 1.


def noise(rng, h, w, cell, cell_y=None):
    """Smooth noise from 0 to 1 whose bumps are about `cell` pixels wide (and `cell_y` high)."""
    rows, cols = int(h / (cell_y or cell)) + 3, int(w / cell) + 3
    grid = Image.fromarray(rng.random((rows, cols), dtype=np.float32))
    return np.clip(np.asarray(grid.resize((w, h), Image.Resampling.BICUBIC)), 0, 1)


def fractal(rng, h, w, cell, octaves=4):
    """Noise with finer noise on top of it, stretched to run from 0 to 1."""
    total = sum(noise(rng, h, w, max(cell / 2**k, 1.5)) / 1.8**k for k in range(octaves))
    return (total - total.min()) / (np.ptp(total) + 1e-6)


def ramp(x, low, high):
    """0 below `low`, 1 above `high`, and smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def blur(field, radius):
    """The field, softened."""
    image = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def polygon(h, w, points):
    """1 inside the polygon, 0 outside."""
    image = Image.new("L", (w, h))
    ImageDraw.Draw(image).polygon([tuple(map(float, p)) for p in points], fill=255)
    return np.asarray(image, dtype=np.float32) / 255


def shift(field, dx, dy):
    """The field moved by whole pixels, with nothing moving in at the edges."""
    moved, (h, w) = np.zeros_like(field), field.shape
    moved[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = field[
        max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
    ]
    return moved


def mix(a, b, alpha):
    """Colours `a` covered with `b` as far as the field `alpha` says."""
    alpha = np.asarray(alpha, dtype=np.float32)[..., None]
    return a * (1 - alpha) + np.asarray(b, dtype=np.float32) * alpha


def hsv(h, s, v):
    """A colour from hue, saturation and value."""
    return np.array(colorsys.hsv_to_rgb(h % 1, min(max(s, 0), 1), min(max(v, 0), 1)), dtype=np.float32)


# Backgrounds: arrays of height by width by 3.


def soil(rng, h, w):
    """Crumbly earth with pebbles."""
    base = hsv(rng.uniform(0.05, 0.09), rng.uniform(0.3, 0.5), rng.uniform(0.36, 0.5))
    crumbs = fractal(rng, h, w, 60, 5)
    gy, gx = np.gradient(crumbs)
    out = base * (0.62 + 0.7 * crumbs - 5 * (gx + gy))[..., None]
    yy, xx = np.mgrid[:h, :w].astype(np.float32)
    for _ in range(int(rng.integers(12, 30))):
        cx, cy, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(5, 20)
        d = np.hypot((xx - cx) / r, (yy - cy) / (r * rng.uniform(0.65, 1)))
        stone = hsv(rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.35), rng.uniform(0.4, 0.72))
        out *= (1 - 0.4 * ramp(np.hypot(xx - cx - r / 4, yy - cy - r / 4), 1.5 * r, 0.7 * r))[..., None]
        lit = 1.05 - 0.25 * ((xx - cx) + (yy - cy)) / r
        out = mix(out, stone * lit[..., None], ramp(d, 1.08, 0.92))
    return out


def paper(rng, h, w):
    """Drawing paper, sometimes tinted, with a faint stain and a grain."""
    base = hsv(rng.choice([0.1, 0.12, 0.14, 0.55, 0.02]), rng.uniform(0.04, 0.16), rng.uniform(0.85, 0.96))
    grain = 1 - 0.06 * fractal(rng, h, w, 9, 2) - 0.07 * fractal(rng, h, w, 260, 3)
    return base * grain[..., None]


def table(rng, h, w):
    """Planks of wood."""
    base = hsv(rng.uniform(0.055, 0.1), rng.uniform(0.25, 0.55), rng.uniform(0.5, 0.85))
    plank = int(rng.uniform(0.28, 0.5) * h)
    out = np.zeros((h, w, 3), dtype=np.float32)
    for top in range(-int(rng.integers(plank)), h, plank):
        rings = noise(rng, h, w, 420, 46) * 7 + noise(rng, h, w, 260, 8) * 0.7
        grain = 0.87 + 0.07 * np.sin(2 * np.pi * rings) + 0.1 * noise(rng, h, w, 130, 3)
        rows = slice(max(top, 0), min(top + plank, h))
        seam = ramp(np.arange(h) - top, 0, 7) * ramp(top + plank - np.arange(h), 0, 5)
        board = base * (grain * rng.uniform(0.9, 1.05) * (0.5 + 0.5 * seam[:, None]))[..., None]
        out[rows] = board[rows]
    return np.rot90(out, 2) if rng.random() < 0.5 else out


def greenery(rng, h, w):
    """A hedge far behind: soft leaves and round lights."""
    hue = rng.uniform(0.2, 0.36)
    small = Image.new("RGB", (w // 4, h // 4), tuple((hsv(hue, 0.5, 0.32) * 255).astype(int).tolist()))
    pen = ImageDraw.Draw(small)
    for _ in range(70):
        cx, cy, r = rng.uniform(0, w / 4), rng.uniform(0, h / 4), rng.uniform(8, 26)
        tint = hsv(hue + rng.normal(0, 0.03), rng.uniform(0.3, 0.65), rng.uniform(0.22, 0.72))
        pen.ellipse((cx - r, cy - r / 2, cx + r, cy + r), fill=tuple((tint * 255).astype(int).tolist()))
    small = small.filter(ImageFilter.GaussianBlur(rng.uniform(5, 9))).resize((w, h), Image.Resampling.BICUBIC)
    out = np.asarray(small, dtype=np.float32) / 255
    yy, xx = np.mgrid[:h, :w].astype(np.float32)
    for _ in range(int(rng.integers(4, 14))):
        r = rng.uniform(14, 44)
        d = np.hypot(xx - rng.uniform(0, w), yy - rng.uniform(0, h)) / r
        light = hsv(rng.uniform(0.12, 0.3), rng.uniform(0.1, 0.4), 1)
        out = mix(out, light, ramp(d, 1.1, 0.85) * (0.6 + 0.4 * d.clip(0, 1)) * rng.uniform(0.08, 0.32))
    return out


def sky(rng, h, w):
    """Blue or evening air with clouds."""
    top = hsv(rng.uniform(0.54, 0.6), rng.uniform(0.25, 0.5), rng.uniform(0.75, 0.95))
    low = hsv(0.11, 0.12, 0.97)
    down = np.repeat(np.linspace(0, rng.uniform(0.4, 1), h, dtype=np.float32)[:, None], w, axis=1)
    cloud = noise(rng, h, w, 330, 130) * 0.65 + fractal(rng, h, w, 110, 4) * 0.35
    out = mix(np.broadcast_to(top, (h, w, 3)), low, down)
    return mix(out, (0.99, 0.98, 0.96), ramp(cloud, 0.42, 0.85) * rng.uniform(0.3, 0.9))


def linen(rng, h, w):
    """Woven cloth."""
    base = hsv(rng.uniform(0, 1), rng.uniform(0.06, 0.3), rng.uniform(0.5, 0.88))
    yy, xx = np.mgrid[:h, :w].astype(np.float32)
    weave = np.sin(xx * 1.05 + noise(rng, h, w, 90) * 4) * np.sin(yy * 1.05 + noise(rng, h, w, 90) * 4)
    fold = fractal(rng, h, w, 330, 2)
    return base * (0.84 + 0.05 * weave + 0.05 * noise(rng, h, w, 50, 3) + 0.2 * fold)[..., None]


# Leaves.


def half_outline(leaf):
    """Half the outline from base to tip, in units of the leaf's length: x along the midrib, y aside."""
    t = np.linspace(0, 1, 420)
    a = leaf.width
    if leaf.shape == "palmate":
        angle = np.pi * (1 - t)
        reach = 0.17 + 0.05 * np.cos(angle)
        for lobe, far in PALM:
            gap = np.abs(angle - lobe)
            point = np.exp(-gap / 0.24) * 0.55 + np.exp(-((gap / 0.34) ** 2)) * 0.45
            reach = reach + (far - 0.2) * point
        reach = reach * (1 - 0.1 * np.abs(np.sin(angle * 5.5)) * ramp(reach, 0.2, 0.4))
        reach = reach * ramp(t, -0.03, 0.12)
        return 0.3 * ramp(t, -0.02, 0.1) + reach * np.cos(angle), reach * np.sin(angle) * a / 0.3
    if leaf.shape == "heart":
        turn = np.pi * t
        x = (1 - np.cos(turn)) / 2 - 0.3 * np.sin(turn) * ((1 + np.cos(turn)) / 2) ** 1.6
        y = a * 1.3 * np.sin(turn) ** 0.85 * (1 - 0.75 * t**2.2)
    elif leaf.shape == "lobed":
        x = t
        lobes = np.abs(np.sin(np.pi * ((leaf.veins + 0.42) * t**0.94 + 0.08))) ** 0.8
        y = a * 1.25 * (0.4 + 0.6 * lobes) * np.sin(np.pi * t**1.2) ** 0.6
        x = x + 0.3 * (y - a * 0.5) * np.sin(np.pi * t)
    elif leaf.shape == "lanceolate":
        x, y = t, a * np.sin(np.pi * t**0.85) ** 1.25
    else:
        x, y = t, a * 2.1 * t**0.55 * (1 - t) ** 0.85
    if leaf.teeth and leaf.shape != "lobed":
        saw = (t * leaf.teeth) % 1
        y = y * (1 + 0.075 * saw**1.5 * np.sin(np.pi * t) ** 0.5)
        x = x + 0.007 * saw * np.sin(np.pi * t)
    return x, y


def place(leaf, x, y):
    """Points in units of the leaf, as pixels: bent, turned, scaled and moved."""
    y = y + leaf.bend * (x**2 - x * 0.3)
    c, s = math.cos(leaf.angle), math.sin(leaf.angle)
    return np.stack([leaf.x + leaf.length * (c * x - s * y), leaf.y + leaf.length * (s * x + c * y)], axis=-1)


def unplace(leaf, h, w):
    """For each pixel, where it lies in units of the leaf."""
    yy, xx = np.mgrid[:h, :w].astype(np.float32)
    dx, dy = (xx - leaf.x) / leaf.length, (yy - leaf.y) / leaf.length
    c, s = math.cos(leaf.angle), math.sin(leaf.angle)
    x, y = c * dx + s * dy, c * dy - s * dx
    return x, y - leaf.bend * (x**2 - x * 0.3)


def vein_fields(leaf, x, y):
    """How strongly a vein runs through each pixel, and how the blade swells between the veins."""
    side = np.abs(y)
    mid = np.exp(-((side / (0.011 * (1.15 - 0.9 * np.clip(x, 0, 1)))) ** 2)) * (x > -0.02)
    if leaf.shape == "palmate":
        rays, near = mid * 0, np.full_like(x, 9)
        for lobe, far in PALM:
            c, s = math.cos(lobe), math.sin(lobe)
            along, off = (x - 0.3) * c + y * s, np.abs(y * c - (x - 0.3) * s)
            off = np.where(along > 0, off, np.hypot(x - 0.3, y))
            rays = np.maximum(rays, np.exp(-((off / 0.008) ** 2)) * ramp(along, far, far * 0.4))
            twig = (along - 0.9 * off) * 13
            twig = np.exp(-(((twig - np.round(twig)) / 0.09) ** 2))
            rays = np.maximum(rays, 0.4 * twig * ramp(off, 0.12, 0.05) * ramp(along, 0, 0.1))
            near = np.minimum(near, off)
        return np.maximum(mid, rays), near.clip(0, 0.12) * 0.5 + side * leaf.fold * 0.5
    curve = x - (0.9 if leaf.shape == "lanceolate" else 0.62) * side - 0.55 * side**2
    phase = curve * leaf.veins * (1.35 if leaf.shape != "lobed" else 1) + 0.5 * (y > 0)
    gap = np.abs(phase - np.round(phase))
    lines = np.exp(-((gap / (0.045 + 0.02 * (side < 0.06))) ** 2)) * ramp(side, leaf.width * 1.15, 0)
    fine = (phase * 4.0 + side * 14) % 1
    lines = np.maximum(lines * 0.8, 0.16 * np.exp(-(((fine - 0.5) / 0.14) ** 2)))
    return np.maximum(mid, lines), np.sin(np.pi * gap) * leaf.quilt + side * leaf.fold


def stalk_polygon(leaf):
    """The outline of the stalk, as pixels: it leaves the base backwards and thickens towards its foot."""
    inset = 0.3 if leaf.shape == "palmate" else 0.06
    t = np.linspace(inset, -leaf.stalk, 24)
    thick = 0.009 + 0.012 * ramp(t, -leaf.stalk * 0.4, -leaf.stalk)
    return np.concatenate([place(leaf, t, thick), place(leaf, t[::-1], -thick[::-1])])


def paint_leaf(rng, leaf, h, w, light, sick, severity, marks):
    """The colours and the coverage of one leaf on an otherwise empty canvas."""
    hx, hy = half_outline(leaf)
    wave = 1 + 0.03 * np.sin(np.linspace(0, rng.uniform(6, 14), hx.size) + rng.uniform(0, 6))
    other = hy[::-1] * rng.uniform(0.92, 1)
    ring = np.concatenate([place(leaf, hx, hy * wave), place(leaf, hx[::-1], -other)])
    blade, stalk = polygon(h, w, ring), polygon(h, w, stalk_polygon(leaf))
    if "holes" in marks:
        blade, rim = bite(rng, leaf, blade)
    x, y = unplace(leaf, h, w)
    vein, swell = vein_fields(leaf, x, y)
    swell = swell + 0.012 * noise(rng, h, w, leaf.length / 7) + 0.02 * noise(rng, h, w, leaf.length / 3)
    gy, gx = np.gradient(swell * leaf.length)
    lit = np.clip(gx * light[0] + gy * light[1], -0.7, 0.7)
    inner = blur(blade, leaf.length / 22)
    tone = 0.96 + 0.62 * lit - 0.2 * ramp(inner, 0.85, 0.45)
    tone = tone + 0.2 * (fractal(rng, h, w, leaf.length / 4) - 0.5)
    warm = np.stack([noise(rng, h, w, leaf.length / 2)] * 3, -1) - 0.5
    rgb = leaf.colour * tone[..., None] + warm * np.array([0.1, 0.05, -0.03], dtype=np.float32)
    rgb = mix(rgb, leaf.colour * 0.55 + hsv(0.18, 0.35, 0.9) * 0.45, vein * 0.62)
    rgb = rgb * (1 - 0.16 * np.clip(shift(vein, *(int(2.5 * v) for v in light)) - vein, 0, 1))[..., None]
    if "yellow" in marks:
        straw = hsv(rng.uniform(0.13, 0.17), 0.62, 0.82) * tone[..., None]
        rgb = mix(rgb, straw, yellowing(rng, leaf, inner, x))
    if "scorch" in marks:
        burnt = ramp(inner + 0.35 * noise(rng, h, w, leaf.length / 9), 0.98, 0.78) * ramp(x, 0.45, 0.9)
        rgb = mix(rgb, hsv(rng.uniform(0.06, 0.09), 0.55, 0.5) * tone[..., None], burnt * 0.85)
    if "holes" in marks:
        rgb = mix(rgb, hsv(0.08, 0.5, 0.4), rim * 0.75)
    gloss = np.clip(lit * 2.4 - 0.12, 0, 1) * fractal(rng, h, w, leaf.length / 5, 3)
    if "glare" in marks:
        sheen = ramp(noise(rng, h, w, leaf.length / 3), 0.6, 0.9) * ramp(lit, -0.02, 0.1) * (1 - 0.7 * vein)
        gloss = np.maximum(gloss, sheen * rng.uniform(0.6, 1))
    rgb = mix(rgb, (0.96, 1.0, 0.95), gloss * 0.5)
    if "specks" in marks:
        rgb = specks(rng, rgb, blade, leaf)
    if sick == "rust":
        rgb = rust(rng, rgb, blade, leaf, severity)
    elif sick == "mildew":
        rgb = mildew(rng, rgb, blade, leaf, severity, vein)
    if "drops" in marks:
        rgb = drops(rng, rgb, blade, leaf, light)
    rgb = rgb * (1 - 0.3 * ramp(blur(blade, 3), 0.85, 0.5))[..., None]
    twig = leaf.colour * 0.7 + hsv(rng.choice([0.16, 0.03]), 0.4, 0.75) * 0.3
    ridge = blur(stalk, 4)
    glow = shift(ridge, *(int(-3 * v) for v in light)) - ridge
    stalk_rgb = twig * (0.62 + 0.5 * ridge + 0.3 * glow)[..., None]
    only = blur(blade, 0.8)
    return mix(stalk_rgb, rgb, only), np.maximum(only, blur(stalk, 0.8))


def lay(rng, leaf, h, w, *rest):
    """The leaf painted on a canvas just large enough for it, then put in its place in the picture."""
    x, y = half_outline(leaf)
    points = np.concatenate([place(leaf, x, y), place(leaf, x, -y), stalk_polygon(leaf)])
    left, top = (int(v) - 20 for v in points.min(axis=0))
    right, foot = (int(v) + 20 for v in points.max(axis=0))
    near = replace(leaf, x=leaf.x - left, y=leaf.y - top)
    colours, cover = paint_leaf(rng, near, foot - top, right - left, *rest)
    rows, cols = slice(max(top, 0), min(foot, h)), slice(max(left, 0), min(right, w))
    part = slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)
    rgb, alpha = np.zeros((h, w, 3), dtype=np.float32), np.zeros((h, w), dtype=np.float32)
    rgb[rows, cols], alpha[rows, cols] = colours[part], cover[part]
    return rgb, alpha


def spots(rng, blade, count):
    """Up to `count` random pixels on the blade, as x and y."""
    ys, xs = np.nonzero(blade > 0.5)
    picked = rng.integers(0, len(xs), count)
    return [(float(xs[k]), float(ys[k])) for k in picked]


def window(field, cx, cy, r):
    """The part of a field around a point, as slices, and the distances of its pixels from the point."""
    h, w = field.shape[:2]
    rows = slice(min(max(int(cy - r), 0), h), min(max(int(cy + r) + 1, 0), h))
    cols = slice(min(max(int(cx - r), 0), w), min(max(int(cx + r) + 1, 0), w))
    yy, xx = np.mgrid[rows, cols].astype(np.float32)
    return (rows, cols), xx - cx, yy - cy


def bite(rng, leaf, blade):
    """The blade with a few holes eaten into it, and the brown rims of the holes."""
    eaten = np.zeros_like(blade)
    for cx, cy in spots(rng, blade, int(rng.integers(1, 6))):
        for _ in range(3):
            r = leaf.length * rng.uniform(0.008, 0.026)
            ox, oy = rng.normal(0, r * 0.7, 2)
            at, dx, dy = window(blade, cx + ox, cy + oy, 2 * r)
            eaten[at] = np.maximum(eaten[at], ramp(np.hypot(dx, dy * rng.uniform(0.8, 1.2)), r + 1, r - 1))
    return blade * (1 - eaten), np.clip(blur(eaten, 5) * 2.2, 0, 1)


def yellowing(rng, leaf, inner, x):
    """Where an ageing leaf turns yellow: from the edge, from the tip, or in a cloud."""
    cloud = fractal(rng, *inner.shape, leaf.length / 3, 3)
    kind = rng.integers(3)
    edge, tip = ramp(inner + 0.3 * cloud, 1.2, 0.75), ramp(x + 0.5 * cloud, 0.75, 1.3)
    return (edge, tip, ramp(cloud, 0.45, 0.8))[kind] * rng.uniform(0.4, 0.8)


def specks(rng, rgb, blade, leaf):
    """Harmless crumbs of soil, dull brown or pale, sharp-edged and scattered singly."""
    dark = rng.random() < 0.6
    for cx, cy in spots(rng, blade, int(rng.integers(4, 22))):
        r = leaf.length * rng.uniform(0.004, 0.011)
        at, dx, dy = window(rgb, cx, cy, 2 * r)
        tint = hsv(rng.uniform(0.05, 0.1), 0.4, rng.uniform(0.2, 0.4)) if dark else hsv(0.12, 0.12, 0.85)
        d = np.hypot(dx, dy * rng.uniform(0.7, 1.4)) / r
        rgb[at] = mix(rgb[at], tint, ramp(d, 1.15, 0.75) * 0.85)
    return rgb


def rust(rng, rgb, blade, leaf, severity):
    """Clusters of small orange-brown pustules, each in a yellow halo."""
    h, w = blade.shape
    hue, rough = rng.uniform(0.045, 0.085), noise(rng, h, w, 4)
    halo, core, lump = (np.zeros((h, w), dtype=np.float32) for _ in range(3))
    for cx, cy in spots(rng, blade, 3 + int(14 * severity)):
        spread = leaf.length * rng.uniform(0.03, 0.1)
        for _ in range(int(rng.integers(8, 18 + int(26 * severity)))):
            r = leaf.length * rng.uniform(0.005, 0.012 + 0.005 * severity)
            px, py = cx + rng.normal(0, spread), cy + rng.normal(0, spread)
            at, dx, dy = window(blade, px, py, 3.2 * r)
            d = np.hypot(dx, dy * rng.uniform(0.75, 1.3)) / r + (rough[at] - 0.5) * 0.6
            halo[at] = np.maximum(halo[at], ramp(d, 3, 0.8))
            core[at] = np.maximum(core[at], ramp(d, 1.15, 0.7))
            lump[at] = np.maximum(lump[at], np.clip(1 - (dx + dy) / (1.6 * r), 0, 1.8) * (d < 1.2))
    rgb = mix(rgb, hsv(0.145, 0.65, 0.85), halo * rng.uniform(0.25, 0.55))
    tint = hsv(hue, rng.uniform(0.7, 0.88), rng.uniform(0.6, 0.8)) * (0.62 + 0.38 * lump)[..., None]
    return mix(rgb, tint, core * rng.uniform(0.85, 1))


def mildew(rng, rgb, blade, leaf, severity, vein):
    """Patches of white powder, thickest in the middle, grainy and frayed at the edge."""
    h, w = blade.shape
    frayed, grain = fractal(rng, h, w, leaf.length / 12, 4), noise(rng, h, w, 3)
    powder = np.zeros((h, w), dtype=np.float32)
    for cx, cy in spots(rng, blade, 4 + int(12 * severity)):
        r = leaf.length * rng.uniform(0.05, 0.11 + 0.07 * severity)
        at, dx, dy = window(blade, cx, cy, 2 * r)
        d = np.hypot(dx, dy * rng.uniform(0.75, 1.3)) / r
        patch = ramp(d + 1.1 * (frayed[at] - 0.5), 1.15, 0.15) * rng.uniform(0.55, 1)
        powder[at] = 1 - (1 - powder[at]) * (1 - patch)
    powder = powder * (0.62 + 0.62 * grain) * (1 - 0.25 * vein)
    tint = hsv(rng.uniform(0.1, 0.3), rng.uniform(0.02, 0.07), rng.uniform(0.88, 0.96))
    return mix(rgb, tint, np.clip(powder * (0.72 + 0.28 * severity), 0, 0.94))


def drops(rng, rgb, blade, leaf, light):
    """Beads of water: dark towards the light, bright opposite, with a glint."""
    for cx, cy in spots(rng, blade * (blur(blade, 9) > 0.9), int(rng.integers(3, 14))):
        r = leaf.length * rng.uniform(0.01, 0.034)
        squash = rng.uniform(0.8, 1.2)
        at, dx, dy = window(rgb, cx, cy, 2.2 * r)
        d = np.hypot(dx, dy * squash) / r
        across = (dx * light[0] + dy * light[1]) / r
        under = ramp(np.hypot(dx - light[0] * r / 3, dy - light[1] * r / 3) / r, 1.3, 0.7)
        ground = rgb[at] * (1 - 0.4 * under)[..., None]
        bead = rgb[at] * ((0.95 + 0.42 * np.clip(across, -1, 1)) * (1 - 0.25 * ramp(d, 0.75, 1)))[..., None]
        glint = ramp(np.hypot(dx + light[0] * r * 0.45, dy + light[1] * r * 0.45) / r, 0.34, 0.16)
        rgb[at] = mix(mix(ground, bead, ramp(d, 1.05, 0.92)), (1, 1, 1), glint * 0.92)
    return rgb


# Pictures.


GROUNDS = {"soil": soil, "paper": paper, "table": table, "greenery": greenery, "sky": sky, "linen": linen}


def new_leaf(rng, shape, x, y, angle, length, colour):
    """A leaf of the given kind, with a chance shape within that kind."""
    width = {"lanceolate": (0.12, 0.17), "ovate": (0.25, 0.33), "heart": (0.33, 0.4), "lobed": (0.22, 0.28)}
    return Leaf(
        shape, x, y, angle, length,
        width=rng.uniform(*width.get(shape, (0.27, 0.31))),
        bend=rng.uniform(-0.3, 0.3) * (0.5 if shape in ("heart", "palmate") else 1),
        teeth=int(rng.choice([0, 14, 20, 26])),
        veins=int(rng.integers(3, 5) if shape == "lobed" else rng.integers(5, 9)),
        colour=np.clip(colour + rng.normal(0, 0.02, 3), 0.05, 0.95).astype(np.float32),
        stalk=rng.uniform(0.12, 0.24),
        quilt=rng.uniform(0.003, 0.009),
        fold=rng.uniform(0.04, 0.2),
    )  # fmt: skip


def arrange(rng, h, w, kind, shape):
    """The leaves of a picture from back to front: one, a few that meet in the middle, or a sprig."""
    colour = hsv(rng.uniform(0.2, 0.38), rng.uniform(0.48, 0.74), rng.uniform(0.4, 0.64))
    size, turn = min(h, w), rng.uniform(0, 2 * math.pi)
    if kind == "one":
        length = size * rng.uniform(0.86, 1.02) * {"heart": 0.88, "lanceolate": 1.12}.get(shape, 1)
        back, (ox, oy) = length * 0.42, rng.normal(0, 12, 2)
        x, y = w / 2 - back * math.cos(turn) + ox, h / 2 - back * math.sin(turn) + oy
        return [new_leaf(rng, shape, x, y, turn, length, colour)]
    if kind == "few":
        count, leaves = int(rng.integers(2, 4)), []
        for k in range(count):
            angle = turn + 2 * math.pi * k / count + rng.normal(0, 0.3)
            length = size * rng.uniform(0.48, 0.57)
            x, y = w / 2 + 0.07 * size * math.cos(angle), h / 2 + 0.07 * size * math.sin(angle)
            leaves.append(new_leaf(rng, shape, x, y, angle, length, colour))
        return leaves
    shape = str(rng.choice(["lanceolate", "lanceolate", "ovate"]))
    turn, length = rng.uniform(-2.4, -0.7), size * rng.uniform(0.42, 0.47)
    leaves = []
    for side, along in ((0, 0.07), (1, 0.0), (-1, -0.07), (1, -0.25), (-1, -0.32)):
        x, y = w / 2 + size * along * math.cos(turn), h / 2 + size * along * math.sin(turn)
        x, y = x - 6 * side * math.sin(turn), y + 6 * side * math.cos(turn)
        leaf = new_leaf(rng, shape, x, y, turn + side * rng.uniform(0.8, 1.1), length, colour)
        leaf.stalk, leaf.bend = (1.7, 0.02) if side == 0 else (0.08, leaf.bend)
        leaf.width *= 0.92
        leaves.append(leaf)
    return leaves


def choose_marks(rng, sick):
    """The harmless things to be seen on a leaf; the healthy ones carry more of them."""
    odds = {"drops": 0.3, "holes": 0.25, "yellow": 0.25, "scorch": 0.14, "glare": 0.2, "specks": 0.15}
    share = 1.0 if sick == "healthy" else 0.35
    return {name for name, p in odds.items() if rng.random() < p * share}


def finish(rng, rgb, h, w, light, dappled):
    """The light across the picture, dapples of shade, a vignette, a paper grain; then the final size."""
    yy, xx = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    fall = 1 - rng.uniform(0.03, 0.16) * (xx * light[0] + yy * light[1]) - 0.09 * (xx**2 + yy**2)
    rgb = rgb * fall[..., None]
    if dappled:
        shade = blur(ramp(noise(rng, h, w, w / 5), 0.45, 0.6), 14)
        rgb = rgb * (1.06 - rng.uniform(0.2, 0.38) * shade)[..., None]
    rgb = rgb * (1.02 - 0.06 * fractal(rng, h, w, 7, 2))[..., None]
    rgb = rgb * np.array([1 + rng.normal(0, 0.025), 1, 1 + rng.normal(0, 0.03)]) * rng.uniform(1, 1.14)
    image = Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))
    image = image.resize((w // OVER, h // OVER), Image.Resampling.LANCZOS)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.choice([0, 0.3, 0.6]))))
    grain = rng.normal(0, rng.uniform(0.6, 2.4), (h // OVER, w // OVER, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def deck(rng, items):
    """The items over and over, shuffled, one for each picture: every class gets as many of each."""
    return [items[k % len(items)] for k in rng.permutation(COUNT)]


def draw(rng, sick, severity, ground, kind, shape):
    """One picture of a class; `severity` runs from 0, hardly to be seen, to 1."""
    side, aspect = rng.uniform(195, 220), rng.uniform(0.92, 1.09)
    w, h = OVER * int(side * aspect), OVER * int(side / aspect)
    rgb = GROUNDS[ground](rng, h, w)
    toward = rng.uniform(0, 2 * math.pi)
    light = (math.cos(toward), math.sin(toward))  # the way the light travels
    solid = np.full((h, w), 0.0 if ground in FAR else 1.0, dtype=np.float32)
    marks, reach = choose_marks(rng, sick), rng.uniform(9, 24)
    for leaf in arrange(rng, h, w, kind, shape):
        colours, cover = lay(rng, leaf, h, w, light, sick, severity, marks)
        fallen = blur(shift(cover, int(light[0] * reach), int(light[1] * reach)), reach * 0.55)
        touch = blur(cover, 5)
        rgb = rgb * (1 - solid * np.maximum(0.42 * fallen, 0.25 * touch))[..., None]
        rgb = mix(rgb, colours, cover)
        solid = np.maximum(solid, cover)
    return finish(rng, rgb, h, w, light, dappled=ground not in FAR and rng.random() < 0.2)


def main():
    """Write the three folders anew."""
    folder = Path(__file__).resolve().parent / "leaves"
    shutil.rmtree(folder, ignore_errors=True)
    for number, sick in enumerate(CLASSES):
        (folder / sick).mkdir(parents=True)
        rng = np.random.default_rng([SEED, number])
        decks = [deck(rng, items) for items in (np.linspace(0, 1, COUNT) ** 0.55, list(GROUNDS), KINDS, SHAPES)]
        for k, cards in enumerate(zip(*decks, strict=True)):
            picture = draw(np.random.default_rng([SEED, number, k]), sick, *cards)
            picture.save(folder / sick / f"{sick}-{k + 1:02}.jpg", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
