"""From what a source lists to ``LabelledImages``: placed into classes, kept, decoded, measured, with a report.

What is read is kept in a private folder, so its source may disappear. Knows nothing of networks, nor how files get
their classes, how bytes are fetched or become pixels: it asks for them and notes what was refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from headswap.common.errors import InputError, PictureError
from headswap.common.limits import limits
from headswap.common.text import harmless, how_many, natural
from headswap.data import archives, label_tables
from headswap.data import layout as layouts
from headswap.data.dataset import LabelledImages, Report
from headswap.data.decoding import size_of
from headswap.data.duplicates import Traits, measured, resembling
from headswap.data.layout import Layout, Listing
from headswap.data.picture_inputs import refuse_address
from headswap.data.sources import EXPECTED, LINKED, TABLES, Fetch, Found, Meter, adopt, start_of, walk
from headswap.data.store import INTERPOLATION, SIDE, STORE_BYTES, Store

_TABLES = 10  # that are looked at, of a source
_NAMED = 3  # names in a note
_TOLD = 20  # files between two words on how far it is


@dataclass(frozen=True)
class Reading:
    """How far reading is: ``done`` files of ``of``, which is not known (0) while a source is being listed."""

    done: int
    of: int = 0


Loading = Generator[Reading | LabelledImages, None, None]  # the images come last


def load_images(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    store_bytes: int = STORE_BYTES,
    for_evaluation: bool = False,
    multi_label: bool | None = None,
) -> LabelledImages:
    """Read a folder, a zip or a tar.gz with one sub-folder per class, or a CSV with labels, and check every image.

    A file that cannot be used is skipped and listed in ``.report``, which says what was understood; the classes are
    those that have an image. Folders that hold everything are peeled off, deeper ones belong to their class. Where
    ``train`` stands beside ``val`` or ``test``, by these or other usual names, the classes lie in these: ``val``
    becomes the validation half and ``test`` is set aside; folders with the same sub-folders are parts of one set as
    well. A CSV says instead what the images beside it show, each one label, or several or none of them
    (``multi_label``); one called ``labels.csv`` inside a folder or an archive is found by itself, and others if their
    header says which column is which. Copies of one image belong to one group, which never sits on both sides of the
    split.

    Args:
        source: path of a folder, an archive or a CSV.
        name: what to call the source in messages; its own file name by default.
        store_bytes: how many bytes of decoded pixels stay in memory; the rest is decoded when asked for.
        for_evaluation: take what judges a model instead of what it learns from: ``test/``, or without one ``val/``, or
            without halves everything; a single class is enough then.
        multi_label: True: an image may carry several labels or none, whatever the table says. False: each has one, and
            an image with several is left out. None: as the table says.

    Raises:
        InputError: if there is no such source, no image or only one class in it, or more of something than
            ``headswap.common.limits`` allows, counted while it is read.
    """
    *_, images = loading(
        source, name=name, store_bytes=store_bytes, for_evaluation=for_evaluation, multi_label=multi_label
    )
    return images


def loading(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    store_bytes: int = STORE_BYTES,
    onto: LabelledImages | None = None,
    least: int = 2,
    for_evaluation: bool = False,
    multi_label: bool | None = None,
) -> Loading:
    """The same, told as it goes; the images come last. Closed before, it leaves nothing behind.

    Args:
        source, name, store_bytes, for_evaluation, multi_label: as for ``load_images``.
        onto: images to add these to; they stay as they are and share their store with what is returned.
        least: how many classes there must be in the end; to judge by, one is enough.
    """
    refuse_address(source)
    path = Path(source)
    label = harmless(name or path.name or str(path))
    how = _How(label, store_bytes, onto, least, for_evaluation=for_evaluation, multi_label=multi_label)
    if path.name.lower().endswith(TABLES) and os.path.isfile(path):
        home = path.absolute().parent
        yield from _load(walk(home, home.name), replace(how, table=path.name))
    elif os.path.isdir(path):  # unlike Path's own, never raises
        yield from _load(walk(path, name or path.name), replace(how, folder=path.resolve().name))
    elif not os.path.exists(path):
        raise InputError(f"{label} does not exist; check the name.")
    else:
        with archives.opened(path, label) as files:
            yield from _load(files, how)


def gather(files: Iterable[tuple[str, Path]], **options: int) -> LabelledImages:
    """The images of files that lie anywhere, by their relative names: ``gathering``, run to its end."""
    *_, images = gathering([(name, path, "") for name, path in files], **options)
    return images


def gathering(
    files: Iterable[tuple[str, Path, str]],
    *,
    label: str = "",
    store_bytes: int = STORE_BYTES,
    onto: LabelledImages | None = None,
    least: int = 2,
    for_evaluation: bool = False,
) -> Loading:
    """What a browser's upload gives, told as it goes: ``loading`` for files that lie anywhere.

    Args:
        files: relative name, such as "flowers/roses/a.png", the path where its bytes lie, and the burst of a camera
            that it belongs to or "". Whether that path may be read at all is for the caller to decide.
        label: the class of all of them; without one their folders or a table say what they show.
        store_bytes, onto, least, for_evaluation: as for ``loading``.

    Raises:
        InputError: as ``load_images`` does.
    """
    found = (
        Found.named(name, partial(adopt, Path(path)), burst=burst, peek=partial(start_of, Path(path)))
        for name, path, burst in files
    )
    of_class = harmless(label.strip())
    yield from _load(
        found, _How("The upload", store_bytes, onto, least, of_class=of_class, for_evaluation=for_evaluation)
    )


@dataclass(frozen=True)
class _How:
    """What is asked of a loading."""

    label: str  # what to call the source
    store_bytes: int
    onto: LabelledImages | None
    least: int
    table: str = ""  # the one that counts, if it was given itself
    of_class: str = ""
    folder: str = ""  # what the folder itself is called
    for_evaluation: bool = False
    multi_label: bool | None = None


@dataclass(frozen=True)
class _Picture:
    """A file with what it shows, and what was made of it so far."""

    name: str
    labels: tuple[str, ...]  # one of them, unless a table says otherwise
    held_out: bool
    fetch: Fetch = field(repr=False)
    burst: str = ""
    path: Path = Path()
    traits: Traits | None = None


_Pictures = list[_Picture]
_Skipped = list[tuple[str, str]]  # (name, reason)


def _load(found: Iterable[Found], how: _How) -> Loading:
    pictures, skipped, listings = yield from _sort_out(found, how)
    store = how.onto._store if how.onto else Store(how.store_bytes)
    written: list[Path] = []
    try:
        if how.of_class:
            layout = Layout(tuple(layouts.Picture(picture, (how.of_class,)) for picture in pictures))
        else:
            read = _read_tables(listings, store, how.label)
            layout = layouts.arrange(
                pictures,
                read,
                table=how.table,
                folder=harmless(how.folder),
                for_evaluation=how.for_evaluation,
                multi_label=how.multi_label,
            )
        placed = [
            _Picture(p.found.name, p.labels, p.role == layouts.VALIDATION, p.found.fetch, p.found.burst)
            for p in layout.placed
        ]
        _check_classes(placed, how)
        kept, unusable = yield from _keep(placed, store, how.label, written)
        decoded, broken = yield from _decode(kept, store)
        usable, strangers = _with_training(decoded, how.onto)
        notes = [*layout.notes, *_linked(skipped), *_missing(placed, usable, how.onto)]
        skipped = sorted([*skipped, *layout.skipped, *unusable, *broken, *strangers], key=lambda pair: natural(pair[0]))
        unchecked = any(picture.held_out for picture in placed) and not any(picture.held_out for picture in usable)
        halves = [layout.halves] if layout.halves and not unchecked else []
        report = Report(len(usable), tuple(skipped), tuple(notes), (*layout.understood, *halves))
        images = _labelled(usable, report, store, how, layout.multi_label)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        if how.onto is None:
            store.close()
        raise
    yield images


def _sort_out(found: Iterable[Found], how: _How) -> Generator[Reading, None, tuple[list[Found], _Skipped, list[Found]]]:
    """What may be a picture, what is not, and what may be a table of labels, by name alone."""
    pictures: list[Found] = []
    listings: list[Found] = []
    skipped: _Skipped = []
    there, most = Counter[str](how.onto.names if how.onto else ()), limits().images
    for item in found:
        if item.litter:
            continue
        if len(pictures) + len(skipped) + (len(how.onto) if how.onto else 0) >= most:
            raise InputError(f"{how.label} holds more than {most:,} files; take fewer.")
        if item.may_be_table and not how.of_class and len(listings) < _TABLES:
            listings.append(item)
        elif item.problem:
            skipped.append((item.name, item.problem))
        else:
            there[item.name] += 1
            again = there[item.name]
            pictures.append(item if again == 1 else replace(item, name=f"{item.name} ({again})"))
        if len(pictures) % _TOLD == 0:
            yield Reading(len(pictures))
    return pictures, skipped, listings


def _read_tables(listings: Sequence[Found], store: Store, label: str) -> list[Listing]:
    """Each of them as a table, or why it is none."""
    read: list[Listing] = []
    for listing in listings:
        path = store.place(label_tables.NAME)
        name = listing.parts[-1]
        try:
            listing.fetch(path, Meter(label_tables.MAX_BYTES, f"{label} has a table of labels that is too large."))
            read.append(Listing(listing, label_tables.read_sheet(path, name)))
        except InputError as error:
            read.append(Listing(listing, error))
        except OSError:
            read.append(Listing(listing, InputError(f"{name} cannot be opened; check that it may be read.")))
        finally:
            path.unlink(missing_ok=True)
    return read


def _check_classes(placed: _Pictures, how: _How) -> None:
    most = limits().classes
    if len(_shown(placed, how.onto)) > most:
        raise InputError(f"{how.label} holds more than {most:,} classes; a class is a folder, or a label of the table.")


def _keep(
    placed: _Pictures, store: Store, label: str, written: list[Path]
) -> Generator[Reading, None, tuple[_Pictures, _Skipped]]:
    """Put each picture into the store's folder; where they lie is noted in ``written`` as well."""
    kept, skipped, most = [], [], limits()
    size = f"{most.megabytes / 1024:.3g} GB"
    meter = Meter(
        most.bytes - store.spent,
        f"{label} holds more than {size} that would have to be unpacked or copied, with what is there already; make "
        "the pictures smaller (1000 pixels are plenty) or take fewer.",
    )
    for number, picture in enumerate(placed):
        if number % _TOLD == 0:
            yield Reading(number, 2 * len(placed))
        path = store.place(picture.name)
        written.append(path)
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
    store.spent += meter.bytes
    return kept, skipped


def _decode(kept: _Pictures, store: Store) -> Generator[Reading, None, tuple[_Pictures, _Skipped]]:
    """Decode and measure everything once, in parallel, for the store's sake and to find what is damaged."""

    def looked_at(picture: _Picture) -> _Picture | str:
        try:
            size = size_of(picture.path)
            pixels = store.pixels(picture.path, SIDE, INTERPOLATION)
            digest = hashlib.blake2b(picture.path.read_bytes(), digest_size=16).digest()
            return replace(picture, traits=measured(pixels, size, digest))
        except PictureError as error:
            picture.path.unlink(missing_ok=True)
            return error.reason

    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    decoded, broken = [], []
    try:
        for number, (picture, result) in enumerate(zip(kept, pool.map(looked_at, kept), strict=True)):
            if number % _TOLD == 0:
                yield Reading(len(kept) + number, 2 * len(kept))
            if isinstance(result, str):
                broken.append((picture.name, result))
            else:
                decoded.append(result)
    finally:
        pool.shutdown(cancel_futures=True)
    return decoded, broken


def _with_training(decoded: _Pictures, onto: LabelledImages | None) -> tuple[_Pictures, _Skipped]:
    """Leave out validation images of classes that cannot be learned."""
    learnable = {label for picture in decoded if not picture.held_out for label in picture.labels}
    learnable.update(onto.classes if onto else ())
    strangers = [picture.name for picture in decoded if not learnable.issuperset(picture.labels)]
    usable = [picture for picture in decoded if learnable.issuperset(picture.labels)]
    return usable, [(name, "has a class without an image to learn from") for name in strangers]


def _linked(skipped: _Skipped) -> list[str]:
    """Notes on folders that were not followed: a class or a half may be lacking."""
    links = [name for name, reason in skipped if reason == LINKED]
    notes = [f"{name}/ {LINKED}." for name in links[:_NAMED]]
    halves = [name for name in links if (role := layouts.role_of(name.rsplit("/", 1)[-1])) and role[0] != "training"]
    if halves:
        notes.append(f"{halves[0]}/ is not used, so that images to check on are drawn from the others instead.")
    return notes


def _missing(placed: _Pictures, usable: _Pictures, onto: LabelledImages | None) -> list[str]:
    """Notes on classes that lost all their images, or that the validation folder lacks."""
    there = _shown(usable, onto)
    lost = [label for label in _shown([picture for picture in placed if not picture.held_out]) if label not in there]
    notes = [f"'{name}' has no image that can be used, so it is not a class." for name in lost]
    checked = _shown([picture for picture in usable if picture.held_out])
    if not checked and any(picture.held_out for picture in placed):
        names = ", ".join(_shown([picture for picture in placed if picture.held_out])[:_NAMED])
        notes.append(
            f"The validation folder is not used, because no class of it ({names}) is learned; images to check on are "
            "drawn from the others instead."
        )
    if checked:
        unchecked = [label for label in there if label not in checked]
        notes += [f"The validation folder has no image of '{name}'." for name in unchecked]
    return notes


def _shown(pictures: _Pictures, onto: LabelledImages | None = None) -> list[str]:
    """The labels of pictures, and of images that they are added to, each once and sorted."""
    labels = {label for picture in pictures for label in picture.labels}
    return sorted(labels.union(onto.classes if onto else ()), key=natural)


def _labelled(usable: _Pictures, report: Report, store: Store, how: _How, multi_label: bool) -> LabelledImages:
    classes = _shown(usable, how.onto)
    if not usable:
        raise InputError(
            f"{how.label} holds no image to learn from; expected {EXPECTED}, but found {_instead(report)}."
        )
    if len(classes) < (1 if how.for_evaluation else how.least):
        wanted = "add a sub-folder with what it is to be told from."
        raise InputError(" ".join([f"{how.label} holds only one class, '{classes[0]}';", wanted, *report.notes]))
    images = LabelledImages(
        classes=(),
        labels=((),) * len(usable),
        groups=tuple(picture.burst or None for picture in usable),
        names=tuple(picture.name for picture in usable),
        paths=tuple(picture.path for picture in usable),
        traits=tuple(picture.traits for picture in usable),
        bursts=tuple(picture.burst for picture in usable),
        report=report,
        held_out=tuple(picture.held_out for picture in usable),
        _store=store,
        multi_label=multi_label,
    )
    named = [picture.labels for picture in usable]
    if how.onto:
        images, named = how.onto.plus(images), how.onto.named + named
    images = images.showing(named)
    return replace(images, groups=tuple(resembling(images.traits, images.groups)))


def _instead(report: Report) -> str:
    loose = sum(reason == "lies outside the class folders" for _, reason in report.skipped)
    if loose:
        return f"{how_many(loose)} lying loose"
    if report.skipped:
        name, reason = report.skipped[0]
        return f"{len(report.skipped)} unusable (the first, {name}, {reason})"
    return "nothing"
