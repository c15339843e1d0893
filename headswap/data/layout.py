"""Which class and which half each file belongs to: by its folders, or by tables beside it.

One sub-folder per class is the rule. Folders that hold everything are peeled off; folders for training, validation and
test are understood by many names, and by bearing the same sub-folders. Whatever was understood, or taken for granted,
is said. Knows only names: nothing is opened here.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from headswap.common.errors import InputError
from headswap.common.text import harmless, how_many, listed, natural
from headswap.data import label_tables
from headswap.data.file_names import FileNames, Meaning, like_a_picture
from headswap.data.sources import Found, leads_outside

TRAINING, VALIDATION, TEST = "training", "validation", "test"
LOOSE = "lies outside the class folders"
# What folders for the halves are called, in lower case.
_ROLES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("train", "training", "trn"), TRAINING)
    | dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel"), VALIDATION)
    | dict.fromkeys(("test", "testing", "tst", "pred", "predict", "prediction", "inference"), TEST)
)
# Of some people the validation folder, of others the test folder beside one.
_EITHER = frozenset({"eval", "evaluation", "evaluate", "holdout", "heldout"})
_FILLERS = frozenset(
    {"set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "folder", "dir"}
)
_MOST_NAMED = 3  # folders in a sentence


@dataclass(frozen=True)
class Picture:
    """A file with what it shows, by its folder or by a table."""

    found: Found
    labels: tuple[str, ...]  # one of them, unless a table says otherwise
    role: str = TRAINING
    half: str = ""  # what says its role: a folder, such as "train/", or a table


@dataclass(frozen=True, eq=False)
class Listing:
    """A table that lies beside the pictures, or why it cannot be read as one."""

    found: Found
    sheet: label_tables.Sheet | InputError


@dataclass(frozen=True)
class Layout:
    """Where everything belongs, and what is to be said of that."""

    placed: tuple[Picture, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # (name, reason)
    understood: tuple[str, ...] = ()  # a sentence for each table
    halves: str = ""  # the sentence that says which half is for what
    notes: tuple[str, ...] = ()
    multi_label: bool = False


def arrange(
    pictures: Sequence[Found],
    listings: Sequence[Listing] = (),
    *,
    table: str = "",
    folder: str = "",
    for_evaluation: bool = False,
    multi_label: bool | None = None,
) -> Layout:
    """Give each picture what it shows and its half.

    Args:
        pictures: the files that may be pictures.
        listings: the files that may be tables of labels.
        table: the name of the table that counts; without one ``labels.csv``, or those whose header says so.
        folder: what the folder that holds everything is called.
        for_evaluation: choose what judges a model, ``test/`` where there is one or else ``val/``, instead of what it
            learns from.
        multi_label: whether an image may carry several labels; None leaves it to the tables.

    Raises:
        InputError: if the table that counts cannot be read or names no picture, and folders show no classes either; or
            if a test folder is to judge that does not say what its pictures show.
    """
    folders = _by_folders(pictures)
    layout = _by_tables(pictures, listings, table, folders, multi_label)
    layout = _spelled_alike(layout)
    if for_evaluation and folder and not layout.placed and all(len(picture.parts) == 1 for picture in pictures):
        return _of_one_class(pictures, folder)
    return _to_judge(layout) if for_evaluation else _to_learn(layout)


def _of_one_class(pictures: Sequence[Found], folder: str) -> Layout:
    """Pictures without folders or a table to say what they show: to judge by, they show what their own is called."""
    said = (f"The images lie in {folder}/ itself, so {folder} is their class.",) if pictures else ()
    return Layout(tuple(Picture(picture, (folder,)) for picture in pictures), understood=said)


# Halves


def role_of(name: str) -> tuple[str, str] | None:
    """What a folder is for by its name, and what else its name says: ``seg_train`` is (training, "seg")."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    text = re.sub(r"(hold|held)[^a-z]*out", "holdout", text)
    words = [re.sub(r"(?<=[a-z]{3})(set|data|images)$", "", word) for word in re.findall(r"[^\W\d_]+", text)]
    roles = {word for word in words if word in _ROLES or word in _EITHER}
    if len(roles) != 1:
        return None
    [role] = roles
    return _ROLES.get(role, role), "_".join(word for word in words if word not in roles | _FILLERS)


def _roles(names: Iterable[str]) -> dict[str, str | None]:
    """What each of some folders is for, where these are the halves of one set; else nothing."""
    said = {name: role_of(name) for name in names}
    for rest in sorted({role[1] for role in said.values() if role}):
        roles = {name: role[0] if role and role[1] == rest else None for name, role in said.items()}
        either = TEST if VALIDATION in roles.values() else VALIDATION
        roles = {name: either if role in _EITHER else role for name, role in roles.items()}
        if TRAINING in roles.values() and len({*roles.values(), None}) > 2:
            return roles
    return {}


def _to_learn(layout: Layout) -> Layout:
    """A test folder never chooses anything."""
    aside = Counter(picture.half for picture in layout.placed if picture.role == TEST)
    notes = [
        f"{half}: {how_many(count)} set aside; a test folder never chooses anything."
        for half, count in sorted(aside.items())
    ]
    learned = tuple(picture for picture in layout.placed if picture.role != TEST)
    return replace(
        layout,
        placed=learned,
        halves=_halves(learned),
        notes=(*notes, *layout.notes),
    )


def _halves(learned: Sequence[Picture]) -> str:
    by_role = {role: sorted({p.half for p in learned if p.role == role}) for role in (TRAINING, VALIDATION)}
    if by_role[TRAINING] == [""] or not by_role[TRAINING]:
        return ""
    if not by_role[VALIDATION]:
        return f"{_joined(by_role[TRAINING])} to learn from, and a part drawn by lot to check on."
    return f"{_joined(by_role[TRAINING])} to learn from, {_joined(by_role[VALIDATION])} to check on."


def _to_judge(layout: Layout) -> Layout:
    """The test pictures, or those for validation, or all where there are no halves."""
    able = [picture for picture in layout.placed if picture.labels or layout.multi_label]
    mute = [picture for picture in layout.placed if not (picture.labels or layout.multi_label)]
    halves = {role: sorted({p.half for p in able if p.role == role} - {""}) for role in (TEST, VALIDATION, TRAINING)}
    role = next((role for role in halves if halves[role]), TRAINING)
    if role == TRAINING and any(picture.role != TRAINING for picture in layout.placed):
        where = _joined(sorted({picture.half for picture in mute}))
        raise InputError(f"{where} has no sub-folder for each class, so it cannot judge a model; give one that has.")
    chosen = tuple(replace(p, role=TRAINING) for p in able if p.role == role)
    rest = sorted({picture.half for picture in layout.placed if picture.role != role})
    said = ()
    if rest:
        are = "is" if len(rest) == 1 else "are"
        said = (f"Judged by {_joined(halves[role])}: {how_many(len(chosen))}. {_joined(rest)} {are} left out.",)
    return replace(
        layout,
        placed=chosen,
        skipped=(*layout.skipped, *((picture.found.name, LOOSE) for picture in mute)),
        understood=(*layout.understood, *said),
    )


def _folders(names: Sequence[str]) -> str:
    return _joined([f"{name}/" for name in names])


def _joined(names: Sequence[str]) -> str:
    return listed(names, _MOST_NAMED, "others")


def _spelled_alike(layout: Layout) -> Layout:
    """Classes of another half that are written in another case are the same; of the same half it is only said."""
    known = {name for picture in layout.placed if picture.role == TRAINING for name in picture.labels}
    spelled: dict[str, set[str]] = defaultdict(set)
    for name in sorted(known, key=natural):
        spelled[_same(name)].add(name)
    notes, taken = [], {}
    for picture in layout.placed:
        for name in picture.labels:
            others = spelled[_same(name)]
            if picture.role != TRAINING and name not in known and len(others) == 1:
                taken[name] = (picture.half, *others)
    notes += [
        f"{half}{name} is taken for {own}, as the training half writes it." for name, (half, own) in taken.items()
    ]
    for several in spelled.values():
        if len(several) > 1:
            names = " and ".join(sorted(several))
            notes.append(f"{names} are spelled alike, and are classes of their own; rename one to join them.")
    placed = tuple(
        replace(p, labels=tuple(taken[name][1] if name in taken else name for name in p.labels))
        if p.role != TRAINING
        else p
        for p in layout.placed
    )
    return replace(layout, placed=placed, notes=(*layout.notes, *notes))


def _same(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip() or name


# By folders


def _by_folders(pictures: Sequence[Found]) -> Layout:
    """Give each picture the class that its folder names."""
    inside, tops = _inside(pictures)
    if roles := _roles(tops):
        return _in_halves(_peeled(inside), roles)
    subs = _sub_folders(inside)
    if tops and subs.keys() == tops:
        within = _roles({sub for found in subs.values() for sub in found})
        if within and None not in within.values():  # cat/train, cat/test, dog/train, dog/test
            turned = {picture: (parts[1], parts[0], *parts[2:]) for picture, parts in inside.items() if len(parts) > 2}
            return _in_halves(inside | turned, within)
        if _bear_the_same(subs.values()):
            return _in_parts(inside, subs)
    return Layout(
        tuple(Picture(picture, parts[:1]) for picture, parts in inside.items() if len(parts) > 1),
        tuple((picture.name, LOOSE) for picture, parts in inside.items() if len(parts) < 2),
    )


def _inside(pictures: Sequence[Found]) -> tuple[dict[Found, tuple[str, ...]], set[str]]:
    """The parts of each path below the folders that hold everything, and the folders that stand first there."""
    depth = _wrappers([picture.parts for picture in pictures])
    inside = {picture: picture.parts[depth:] for picture in pictures}
    return inside, {parts[0] for parts in inside.values() if len(parts) > 1}


def _in_parts(inside: Mapping[Found, tuple[str, ...]], subs: Mapping[str, set[str]]) -> Layout:
    """Folders that bear the same sub-folders are parts of one set, each for what its name says, or else to learn."""
    said = {top: role_of(top) for top in subs}
    roles = {top: _ROLES.get(role[0], VALIDATION) if role else TRAINING for top, role in said.items()}
    if TRAINING not in roles.values():
        roles = dict.fromkeys(roles, TRAINING)
    classes = _joined(sorted({sub for found in subs.values() for sub in found}, key=natural))
    tops = _folders(sorted(subs, key=natural))
    note = (
        f"{tops} have the same sub-folders ({classes}), so these are the classes, and {tops} are "
        f"{'halves' if len(subs) == 2 else 'parts'} of one set. Where they are the classes, put their pictures into "
        "them without sub-folders."
    )
    return replace(_in_halves(inside, roles), notes=(note,))


def _in_halves(inside: Mapping[Found, tuple[str, ...]], roles: Mapping[str, str | None]) -> Layout:
    placed, skipped = [], []
    for picture, parts in inside.items():
        role = roles.get(parts[0]) if len(parts) > 1 else TRAINING
        labels = parts[1:2] if len(parts) > 2 else ()
        if role is None:
            skipped.append((picture.name, "lies outside the folders for training, validation and test"))
        elif not labels and role != TEST:
            skipped.append((picture.name, LOOSE))
        else:
            placed.append(Picture(picture, labels, role, f"{parts[0]}/"))
    return Layout(tuple(placed), tuple(skipped))


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


def _peeled(inside: Mapping[Found, tuple[str, ...]]) -> dict[Found, tuple[str, ...]]:
    """Without a folder that holds all of a half and is called like it, as in ``seg_train/seg_train/rose``."""
    peeled = dict(inside)
    while True:
        within: dict[str, set[str | None]] = defaultdict(set)
        for parts in peeled.values():
            if len(parts) > 1:
                within[parts[0]].add(parts[1] if len(parts) > 2 else None)
        again = {
            top
            for top, [first, *more] in ((top, list(found)) for top, found in within.items())
            if not more and first and (role_of(first) == role_of(top) or first.casefold() in _FILLERS)
        }
        if not again:
            return peeled
        peeled = {
            picture: (parts[0], *parts[2:]) if len(parts) > 2 and parts[0] in again else parts
            for picture, parts in peeled.items()
        }


def _sub_folders(inside: Mapping[Found, tuple[str, ...]]) -> dict[str, set[str]]:
    """The sub-folders of each folder that has no pictures beside them."""
    subs: dict[str, set[str]] = defaultdict(set)
    direct = {parts[0] for parts in inside.values() if len(parts) == 2}
    for parts in inside.values():
        if len(parts) > 2 and parts[0] not in direct:
            subs[parts[0]].add(parts[1])
    return subs


def _bear_the_same(subs: Iterable[set[str]]) -> bool:
    """Whether all have most of their names in common: two at least, half of each one's and more."""
    folded = [{_same(name) for name in found} for found in subs]
    times = Counter(name for found in folded for name in found)
    common = {name for name, many in times.items() if many > 1}
    return len(folded) > 1 and all(len(found & common) >= max(2, len(found) / 2) for found in folded)


# By tables


@dataclass(frozen=True, eq=False)
class _Counting:
    """A table that counts: where it lies, its columns, and which picture each of its names means."""

    listing: Listing
    columns: label_tables.Columns
    meant: Mapping[str, Meaning]
    one_label: bool

    @property
    def name(self) -> str:
        return self.listing.found.parts[-1]

    @cached_property
    def table(self) -> label_tables.Table | None:
        """What it says by itself."""
        return _read_as_one([self])

    @cached_property
    def places(self) -> set[int]:
        return {each.place for each in self.meant.values() if each.place is not None}

    def place(self, name: str) -> int | None:
        return self.meant[name].place


def _read_as_one(some: Sequence[_Counting]) -> label_tables.Table | None:
    return label_tables.understood([(each.listing.sheet, each.columns, each.place) for each in some], some[0].one_label)


def _by_tables(
    pictures: Sequence[Found], listings: Sequence[Listing], table: str, folders: Layout, multi_label: bool | None
) -> Layout:
    """What tables say the pictures show; where none counts, what folders say and why no table does."""
    names = FileNames([picture.parts for picture in pictures])
    classes = {name for picture in folders.placed for name in picture.labels}
    if table:
        expected = [each for each in listings if each.found.parts == (table,)]
    else:
        expected = [each for each in listings if each.found.parts[-1].casefold() == label_tables.NAME]
    counting, idle = _readable(expected or listings, names, classes, len(pictures), multi_label is False)
    if not expected:
        counting = _explicit(counting, idle, folders, len(classes))
    counting = _disjoint(counting, idle)
    said = _understood(counting, idle)
    if expected:
        others = [each for each in listings if each not in expected]
        idle |= dict.fromkeys(others, f"is a table that does not count, because {table or label_tables.NAME} does")
    if said:
        return _placed_by(pictures, said, idle, multi_label)
    if expected and len(classes) < 2 and pictures:
        first = expected[0]
        if isinstance(first.sheet, InputError):
            raise first.sheet
        raise InputError(
            f"{first.found.parts[-1]} {_why(idle[first])}: one row says '{harmless(first.sheet.rows[-1][0])}'. Write "
            "the names as the files are called, each with its label beside it."
        )
    passed_over = tuple(
        f"{each.found.parts[-1]} {_why(reason)}, so it is passed over: the folders say what the pictures show."
        for each, reason in idle.items()
        if each in expected
    )
    return replace(folders, skipped=(*folders.skipped, *_unused(idle)), notes=(*passed_over, *folders.notes))


def _why(reason: str) -> str:
    return reason.removeprefix("is a table that ")


def _unused(idle: Mapping[Listing, str]) -> list[tuple[str, str]]:
    return [(listing.found.name, reason) for listing, reason in idle.items()]


def _readable(
    listings: Sequence[Listing], names: FileNames, classes: set[str], pictures: int, one_label: bool
) -> tuple[list[_Counting], dict[Listing, str]]:
    """Those that name pictures; and what the others are instead."""
    counting, idle = [], {}
    for each in listings:
        if isinstance(each.sheet, InputError):
            idle[each] = "is not a picture, nor a table of labels"
            continue
        home = each.found.parts[:-1]
        columns = label_tables.columns_of(
            each.sheet, lambda name, home=home: names.find(name, home).place, like_a_picture
        )
        keys = dict.fromkeys(row[columns.file] for row in columns.body)
        if not columns.hits:
            idle[each] = "is a table that names no picture here"
        elif len(classes) > 1 and classes <= keys.keys() and 2 * columns.hits < pictures:
            idle[each] = "is a table that lists the classes"
        else:
            counting.append(_Counting(each, columns, names.find_all(keys, home), one_label))
    return counting, idle


def _explicit(
    counting: Sequence[_Counting], idle: dict[Listing, str], folders: Layout, classes: int
) -> list[_Counting]:
    """Tables of any name count if their headers say that they do; without classes a single one needs no header."""
    in_a_class = {picture.found.parts[:-1] for picture in folders.placed} if classes > 1 else set()
    kept = []
    for each in counting:
        home = each.listing.found.parts[:-1]
        if each.table is None:
            idle[each.listing] = "is a table without a column of labels"
        elif home and home in in_a_class:
            idle[each.listing] = "is a table inside a class folder, which says what its pictures show"
        elif "submission" in each.name.casefold():
            idle[each.listing] = "is a table to be filled in, by its name"
        elif not each.table.explicit and (classes > 1 or len(counting) > 1):
            idle[each.listing] = "is a table whose header does not say which column names the files and which the label"
        else:
            kept.append(each)
    return kept


def _disjoint(counting: Sequence[_Counting], idle: dict[Listing, str]) -> list[_Counting]:
    """Of tables that name the same pictures the one that names most."""
    kept: list[_Counting] = []
    for each in sorted(counting, key=lambda each: (-len(each.places), each.listing.found.name)):
        rival = next((other for other in kept if other.places & each.places), None)
        if rival:
            idle[each.listing] = f"is a table that names pictures which {rival.listing.found.name} names"
        else:
            kept.append(each)
    return sorted(kept, key=lambda each: natural(each.listing.found.name))


def _understood(
    counting: Sequence[_Counting], idle: dict[Listing, str]
) -> list[tuple[Sequence[_Counting], label_tables.Table]]:
    """Tables with the same header are read as one."""
    alike: dict[tuple[object, ...], list[_Counting]] = defaultdict(list)
    for each in counting:
        alike[each.columns.header, each.columns.names, each.columns.file].append(each)
    said = []
    for some in alike.values():
        table = some[0].table if len(some) == 1 else _read_as_one(some)
        if table is None:
            idle |= {each.listing: "is a table that has no column of labels" for each in some}
        else:
            said.append((some, table))
    return said


def _placed_by(
    pictures: Sequence[Found],
    said: Sequence[tuple[Sequence[_Counting], label_tables.Table]],
    idle: Mapping[Listing, str],
    multi_label: bool | None,
) -> Layout:
    """Give each picture the labels that a table names beside it, and the half of its folder or of its table."""
    several = any(table.several or (table.by_marks and () in table.labels.values()) for _, table in said)
    as_several = several if multi_label is None else multi_label
    labels: dict[int, tuple[str, ...]] = {}
    for _, table in said:
        labels |= table.labels
        if as_several and not table.by_marks:  # an empty cell of several labels is none of them
            labels |= dict.fromkeys(table.unlabelled, ())
    called = {place: each.name for some, _ in said for each in some for place in each.places}
    roles = _roles_by(pictures, said)
    everywhere = _joined(sorted({each.name for some, _ in said for each in some}))
    placed, skipped = [], list(_unused(idle))
    for place, picture in enumerate(pictures):
        role, half = roles.get(place, (TRAINING, ""))
        mine = labels.get(place)
        if role is None:
            skipped.append((picture.name, "lies outside the folders for training, validation and test"))
        elif mine is not None and (as_several or len(mine) == 1):
            placed.append(Picture(picture, mine, role, half))
        elif role == TEST and mine is None:
            placed.append(Picture(picture, (), role, half))
        elif mine is None:
            why = f"has no label in {called[place]}" if place in called else f"is not named in {everywhere}"
            skipped.append((picture.name, why))
        else:
            carries = f"the labels {', '.join(mine)}" if mine else "no label"
            skipped.append((picture.name, f"carries {carries} in {called[place]}, and one is wanted"))
    outside, notes = _not_here(said)
    empties = [place for _, table in said for place in sorted(table.unlabelled)]
    if empties:
        notes.append(_empties(pictures, empties, called, carried=any(place in labels for place in empties)))
    if as_several:
        notes.append("Some images carry several labels or none, so each label is decided on its own.")
    return Layout(
        placed=tuple(placed),
        skipped=(*skipped, *outside),
        understood=tuple(f"{_joined(_called(some))}: {table.understood}." for some, table in said),
        notes=(*(note for _, table in said for note in table.notes), *notes),
        multi_label=as_several,
    )


def _called(some: Sequence[_Counting]) -> list[str]:
    return [each.name if len(some) == 1 else each.listing.found.name for each in some]


def _roles_by(
    pictures: Sequence[Found], said: Sequence[tuple[Sequence[_Counting], label_tables.Table]]
) -> dict[int, tuple[str | None, str]]:
    """For what each picture is, with the folder or table that says so: by its folder, else by its table's name."""
    inside, tops = _inside(pictures)
    if roles := _roles(tops):
        return {
            place: (roles[parts[0]], f"{parts[0]}/")
            for place, picture in enumerate(pictures)
            if len(parts := inside[picture]) > 1
        }
    by_name = {each.name: each for some, _ in said for each in some}
    roles = _roles(os.path.splitext(name)[0] for name in by_name)
    stems = {name: roles.get(os.path.splitext(name)[0]) for name in by_name}
    if not roles or None in stems.values():
        return {}
    return {place: (stems[name], name) for name, each in by_name.items() for place in each.places}


def _not_here(
    said: Sequence[tuple[Sequence[_Counting], label_tables.Table]],
) -> tuple[list[tuple[str, str]], list[str]]:
    """What tables name that is not there, or cannot be told from others."""
    skipped, notes = [], []
    for each in (each for some, _ in said for each in some):
        lacking = [name for name, meaning in each.meant.items() if name and meaning.place is None]
        outside = [name for name in lacking if leads_outside(name) or "://" in name or ".." in re.split(r"[/\\]", name)]
        unclear = [name for name in lacking if each.meant[name].ambiguous]
        missing = [name for name in lacking if name not in outside and name not in unclear]
        for name in outside:
            why = f"lies outside the folder of {each.name}; put the picture beside it"
            skipped.append((harmless(name.replace("\\", "/")), why))
        if missing:
            are = "is" if len(missing) == 1 else "are"
            first = harmless(missing[0].replace("\\", "/"))
            notes.append(f"{each.name} names {how_many(len(missing))} that {are} not there; the first is {first}.")
        if unclear:
            first = harmless(unclear[0])
            notes.append(
                f"{each.name} calls {how_many(len(unclear))} by a name that several have; the first is {first}. Write "
                "their folders, too."
            )
    return skipped, notes


def _empties(pictures: Sequence[Found], empties: Sequence[int], called: Mapping[int, str], carried: bool) -> str:
    first, one = empties[0], len(empties) == 1
    many = "1 image has" if one else f"{len(empties)} images have"
    then = f"{'carries' if one else 'carry'} none of the labels" if carried else f"{'is' if one else 'are'} left out"
    return f"{called[first]}: {many} an empty cell in place of a label and {then}; the first is {pictures[first].name}."
