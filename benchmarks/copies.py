"""How many copies of a folder's pictures are known for copies, and how many different pictures are taken for them."""

import argparse
import io

from PIL import Image

import headswap
from headswap.data.decoding import read_pixels
from headswap.data.duplicates import group_duplicates, measure_image

MOST = 100  # copies of each kind


def compressed(picture: Image.Image) -> Image.Image:
    """The same at JPEG quality 30."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=30)
    return Image.open(stream)


def cut(picture: Image.Image, share: float) -> Image.Image:
    """The same without its edges: half of the share on each side."""
    width, height = picture.size
    edge = share / 2
    return picture.crop((int(width * edge), int(height * edge), int(width * (1 - edge)), int(height * (1 - edge))))


COPIES = {
    "compressed": compressed,
    "half as large": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "cut by 3 %": lambda picture: cut(picture, 0.03),
    "cut by 6 %": lambda picture: cut(picture, 0.06),
}


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    images = headswap.load_images(parser.parse_args().folder)
    joined = len(images) - len(set(images.groups))
    places = range(0, len(images), max(1, len(images) // MOST))
    shares = []
    for name, change in COPIES.items():
        found = 0
        for i in places:
            with Image.open(images.paths[i]) as picture:
                copy = change(picture.convert("RGB"))
            traits = measure_image(read_pixels(copy), copy.size, b"")
            found += group_duplicates([images.stats[i], traits]) == [0, 0]
        shares.append(f"{name} {found / len(places):.0%}")
    print(f"{joined} of {len(images)} different pictures taken for copies; copies found: {', '.join(shares)}")


if __name__ == "__main__":
    main()
