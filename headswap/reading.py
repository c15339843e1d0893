"""From what a source lists to ``LabelledImages``: placed into classes, kept, decoded, with a report.

One sub-folder per class is the rule; wrapper folders and ``train``/``val``/``test`` folders are understood. What
is read is kept in a private folder, so its source may disappear. Knows nothing of networks, nor how bytes are
fetched or become pixels: it asks for them and notes what was refused.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from headswap import tables
from headswap.errors import InputError
from headswap.images import INTERPOLATION, SIDE, STORE_BYTES, LabelledImages, Report, Store, how_many
from headswap.pixels import PictureError, harmless
from headswap.sources import EXPECTED, Fetch, Found, Meter, link_or_copy, members, opened_zip, walk

MAX_FILES = 20_000

_ROLES: Mapping[str, str] = MappingProxyType(
    {
        "train": "training",
        "training": "training",
        "val": "validation",
        "valid": "validation",
        "validation": "validation",
        "test": "test",
    }
)


def load_images(
    source: str | os.PathLike[str], *, name: str | None = None, store_bytes: int = STORE_BYTES
) -> LabelledImages:
    """Read a folder or a zip with one sub-folder per class, or a CSV with labels, and check every image.

    A file that cannot be used is skipped and listed in ``.report``; the classes are those that have an image.
    Folders that hold everything are peeled off, deeper ones belong to their class. Where ``train`` stands
    beside ``val`` or ``test``, the classes lie in these: ``val`` becomes the validation half and ``test`` is
    set aside. A CSV says instead what the images beside it show, each one label, or several or none of them
    (``multi_label``); one called ``labels.csv`` inside a folder or a zip is found by itself.

    Args:
        source: path of a folder, a zip or a CSV.
        name: what to call the source in messages; its own file name by default.
        store_bytes: how many bytes of decoded pixels stay in memory; the rest is decoded when asked for.

    Raises:
        InputError: if there is no such source, no image or only one class in it, or more than ``MAX_FILES``
            files or ``sources.MAX_BYTES`` bytes to be written, counted while they are written.
    """
    path = Path(source)
    label = harmless(name or path.name or str(path))
    if path.suffix.lower() == ".csv" and os.path.isfile(path):
        home = path.absolute().parent
        return _load(walk(home, home.name), label, store_bytes, table=path.name)
    if os.path.isdir(path):  # unlike Path's own, never raises
        return _load(walk(path, name or path.name), label, store_bytes)
    if not os.path.exists(path):
        raise InputError(f"{label} does not exist; check the name.")
    with opened_zip(path, label) as archive:
        return _load(members(archive, label), label, store_bytes)


def gather(files: Iterable[tuple[str, Path]], *, store_bytes: int = STORE_BYTES) -> LabelledImages:
    """The same for files that lie anywhere: what a browser's upload of a folder gives.

    Args:
        files: pairs of a relative name, such as "flowers/roses/a.png", and the path where its bytes lie.
            Whether that path may be read at all is for the caller to decide.
        store_bytes: as for ``load_images``.

    Raises:
        InputError: as ``load_images`` does.
    """
    found = (Found.named(name, partial(link_or_copy, Path(path))) for name, path in files)
    return _load(found, "The upload", store_bytes)


@dataclass(frozen=True)
class _Picture:
    """A file with what it shows, by its folder or by a table, and its private copy once there is one."""

    name: str
    labels: tuple[str, ...]  # one of them, unless a table says otherwise
    held_out: bool
    fetch: Fetch
    path: Path = Path()


_Pictures = list[_Picture]
_Skipped = list[tuple[str, str]]  # (name, reason)


def _load(found: Iterable[Found], label: str, store_bytes: int, table: str = tables.NAME) -> LabelledImages:
    pictures, skipped, listing = _sort_out(found, label, table)
    store = Store(store_bytes)
    try:
        if listing is None:
            multi_label, (placed, outside, notes) = False, _place(pictures)
        else:
            said = _read_table(listing, store, label)
            multi_label, (placed, outside, notes) = said.multi_label, _place_by_table(pictures, said, listing)
        kept, unusable = _keep(placed, store, label)
        decoded, broken = _decode(kept, store)
        usable, strangers = _with_training(decoded)
        skipped = [*skipped, *outside, *unusable, *broken, *strangers]
        notes += _missing(placed, usable)
        report = Report(len(usable), tuple(sorted(skipped, key=lambda pair: _natural(pair[0]))), tuple(notes))
        return _labelled(usable, report, store, label, multi_label)
    except BaseException:
        store.close()
        raise


def _sort_out(found: Iterable[Found], label: str, table: str) -> tuple[list[Found], _Skipped, Found | None]:
    """What may be a picture, what is not, and the table of labels if there is one, by name alone."""
    listing: Found | None = None
    pictures: dict[str, Found] = {}
    skipped: _Skipped = []
    for item in found:
        if item.litter:
            continue
        if len(pictures) + len(skipped) >= MAX_FILES:
            raise InputError(f"{label} holds more than {MAX_FILES} files; take fewer.")
        if item.parts[-1].lower() == table.lower() and item.fetch and listing is None:
            listing = item
        elif item.problem:
            skipped.append((item.name, item.problem))
        elif item.name in pictures:
            skipped.append((item.name, "is there twice; the first is taken"))
        else:
            pictures[item.name] = item
    return list(pictures.values()), skipped, listing


def _read_table(listing: Found, store: Store, label: str) -> tables.Table:
    path = store.folder / tables.NAME
    try:
        listing.fetch(path, Meter(label))
        return tables.read_table(path, listing.parts[-1])
    except PictureError as error:
        raise InputError(str(error)) from error
    finally:
        path.unlink(missing_ok=True)


def _place_by_table(
    pictures: Sequence[Found], table: tables.Table, listing: Found
) -> tuple[_Pictures, _Skipped, list[str]]:
    """Give each picture the labels that a table names beside it: by its path from there, or by its name alone."""
    home, missing = len(listing.parts) - 1, dict(table.rows)
    alone = Counter(picture.parts[-1] for picture in pictures)
    placed, skipped = [], []
    for picture in pictures:
        name = picture.parts[-1]
        keys = ["/".join(picture.parts[home:]), picture.name, *([name] if alone[name] == 1 else [])]
        key = next((key for key in keys if key in table.rows), None)
        if key is None:
            skipped.append((picture.name, f"is not named in {listing.parts[-1]}"))
        else:
            placed.append(_Picture(picture.name, table.rows[key], False, picture.fetch))
            missing.pop(key, None)
    placed.sort(key=_by_label)
    first = f"{listing.parts[-1]} names {how_many(len(missing))} that {'is' if len(missing) == 1 else 'are'} not there"
    notes = [f"{first}; the first is {harmless(next(iter(missing)))}."] if missing else []
    if table.multi_label:
        notes.append("Some images carry several labels or none, so each label is decided on its own.")
    return placed, skipped, notes


def _place(pictures: Sequence[Found]) -> tuple[_Pictures, _Skipped, list[str]]:
    """Give each picture the class that its folder names."""
    depth = _wrappers([picture.parts for picture in pictures])
    tops = {picture.parts[depth] for picture in pictures if len(picture.parts) > depth + 1}
    roles = {top: _ROLES.get(top.lower()) for top in tops}
    halved = "training" in roles.values() and len({*roles.values(), None}) > 2
    placed, skipped, set_aside = [], [], Counter[str]()
    for picture in pictures:
        inside, role = picture.parts[depth:], "training"
        if halved and len(inside) > 1:
            role, inside = roles[inside[0]], inside[1:]
        if role == "test":
            set_aside[picture.parts[depth]] += 1
        elif role is None:
            skipped.append((picture.name, "lies outside the folders for training, validation and test"))
        elif len(inside) < 2:
            skipped.append((picture.name, "lies outside the class folders"))
        else:
            placed.append(_Picture(picture.name, inside[:1], role == "validation", picture.fetch))
    placed.sort(key=_by_label)
    notes = [
        f"{folder}/: {how_many(count)} set aside; a test folder never chooses anything."
        for folder, count in sorted(set_aside.items())
    ]
    return placed, skipped, notes


def _wrappers(names: Sequence[tuple[str, ...]]) -> int:
    """How many folders hold everything and stand above the classes. Loose pictures have no say."""
    depth = 0
    while True:
        nested = [parts for parts in names if len(parts) > depth + 1]
        tops = {parts[depth] for parts in nested}
        inner = {parts[depth + 1] for parts in nested if len(parts) > depth + 2}
        only_folders = all(len(parts) > depth + 2 for parts in nested)
        if len(tops) != 1 or not (len(inner) > 1 or (inner and only_folders)):
            return depth
        depth += 1


def _keep(placed: _Pictures, store: Store, label: str) -> tuple[_Pictures, _Skipped]:
    """Put each picture into the store's folder under a number: a given name is never trusted as a path."""
    kept, skipped, meter = [], [], Meter(label)
    for number, picture in enumerate(placed):
        path = store.folder / f"{number:05d}{os.path.splitext(picture.name)[1].lower()}"
        try:
            picture.fetch(path, meter)
            kept.append(replace(picture, path=path))
        except PictureError as error:
            skipped.append((picture.name, error.reason))
            path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                reason = f"does not fit on the disk of {store.folder.parent}; make room, or set TMPDIR."
                raise InputError(f"{label} {reason}") from error
            skipped.append((picture.name, "cannot be opened; check that it exists and may be read"))
            path.unlink(missing_ok=True)
    return kept, skipped


def _decode(kept: _Pictures, store: Store) -> tuple[_Pictures, _Skipped]:
    """Decode everything once, in parallel, for the store's sake and to find what is damaged."""

    def reason(picture: _Picture) -> str:
        try:
            store.pixels(picture.path, SIDE, INTERPOLATION)
            return ""
        except PictureError as error:
            picture.path.unlink(missing_ok=True)
            return error.reason

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        checked = list(zip(kept, pool.map(reason, kept), strict=True))
    return [picture for picture, why in checked if not why], [(p.name, why) for p, why in checked if why]


def _with_training(decoded: _Pictures) -> tuple[_Pictures, _Skipped]:
    """Leave out validation images of classes that cannot be learned."""
    learnable = {label for picture in decoded if not picture.held_out for label in picture.labels}
    strangers = [picture.name for picture in decoded if not learnable.issuperset(picture.labels)]
    usable = [picture for picture in decoded if learnable.issuperset(picture.labels)]
    return usable, [(name, "has a class without an image to learn from") for name in strangers]


def _missing(placed: _Pictures, usable: _Pictures) -> list[str]:
    """Notes on classes that lost all their images, or that the validation folder lacks."""
    there = _shown(usable)
    lost = [label for label in _shown(placed) if label not in there]
    notes = [f"'{name}' has no image that can be used, so it is not a class." for name in lost]
    checked = _shown([picture for picture in usable if picture.held_out])
    if checked:
        unchecked = [label for label in there if label not in checked]
        notes += [f"The validation folder has no image of '{name}'." for name in unchecked]
    return notes


def _shown(pictures: _Pictures) -> dict[str, None]:
    """The labels of pictures, each once, in the order of their first picture."""
    return dict.fromkeys(label for picture in pictures for label in picture.labels)


def _by_label(picture: _Picture) -> tuple[object, object]:
    return [_natural(label) for label in picture.labels], _natural(picture.name)


def _labelled(usable: _Pictures, report: Report, store: Store, label: str, multi_label: bool) -> LabelledImages:
    classes = tuple(sorted(_shown(usable), key=_natural))
    places = [tuple(sorted(classes.index(name) for name in picture.labels)) for picture in usable]
    if not classes:
        raise InputError(f"{label} holds no image to learn from; expected {EXPECTED}, but found {_instead(report)}.")
    if len(classes) == 1:
        wanted = "add a sub-folder with what it is to be told from."
        raise InputError(" ".join([f"{label} holds only one class, '{classes[0]}';", wanted, *report.notes]))
    return LabelledImages(
        classes,
        labels=tuple(places) if multi_label else tuple(place for (place,) in places),
        groups=tuple(range(len(usable))),
        names=tuple(picture.name for picture in usable),
        paths=tuple(picture.path for picture in usable),
        report=report,
        _held_out=tuple(picture.held_out for picture in usable),
        _store=store,
        multi_label=multi_label,
    )


def _instead(report: Report) -> str:
    loose = sum(reason == "lies outside the class folders" for _, reason in report.skipped)
    if loose:
        return f"{how_many(loose)} lying loose"
    if report.skipped:
        name, reason = report.skipped[0]
        return f"{len(report.skipped)} unusable (the first, {name}, {reason})"
    return "nothing"


def _natural(name: str) -> tuple[list[object], str]:
    """A key that sorts photo2 before photo10, whatever the case; equal ones by their exact name."""
    pieces = re.split(r"([0-9]+)", name.casefold())
    # By its length and digits, because a number of thousands of digits is more than int() takes.
    pieces[1::2] = [(len(digits), digits) for digits in (piece.lstrip("0") for piece in pieces[1::2])]
    return pieces, name
