"""Whatever a file, a folder or a class is called, it is only text: no path, no code, no formula."""

import csv
import io
import tempfile
import zipfile
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import own

from headswap.common.errors import InputError
from headswap.data.csv_tables import format_csv
from headswap.data.loading import load_files_with_progress, load_images
from headswap.data.sources import SourceFile
from headswap.ui.views.dataset import render_dataset

PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "CON", "NUL.png", "train", "val", "__MACOSX", "C:", "~", "${x}", "<b>", "a\u202eb", "NA"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
PATHS = st.lists(PARTS, min_size=1, max_size=5).flatmap(
    lambda parts: st.sampled_from(["/", "\\"]).map(lambda between: between.join(parts) + ".png")
)
LABELS = st.one_of(
    st.sampled_from(
        ["NA", "None", "0", "..", "<script>", "${alert(1)}", "{{value}}", "a" * 300, "\u202eevil", "aux", ".x", "'\""]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
).filter(str.strip)
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@given(st.lists(PATHS, min_size=1, max_size=8, unique=True))
@few
def test_no_path_in_an_archive_leaves_the_folder(paths):
    with tempfile.TemporaryDirectory() as home:
        archive = Path(home, "a.zip")
        with zipfile.ZipFile(archive, "w") as opened:
            for path in ["roses/a.png", "tulips/a.png", *paths]:
                opened.writestr(zipfile.ZipInfo(path.replace("\0", "")), own(path))
        try:
            images = load_images(archive)
        except InputError:
            return
        assert {path.parent for path in images.paths} == {images.paths[0].parent}
        assert all(path.name[:5].isdigit() and path.is_file() for path in images.paths)
        assert not any(".." in name.split("/") or name.startswith("/") for name in images.names)
        assert "".join([*images.names, *images.classes]).replace("\u200c", "").replace("\u200d", "").isprintable()
        assert sorted(each.name for each in Path(home).iterdir()) == ["a.zip"]
        images.close()


@given(st.text(max_size=30))
@few
def test_a_name_that_leads_outside_is_a_problem_and_every_other_is_harmless(name):
    found = SourceFile.from_name(name, None)
    assert found.problem or ".." not in found.parts
    assert not any("/" in part for part in found.parts)
    assert found.name.replace("\u200c", "").replace("\u200d", "").isprintable()


class Words(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.words, self.tags, self.labels = [], set(), set()
        self.feed(page)

    def handle_data(self, data):
        self.words.append(data)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.labels.update(value for key, value in attributes if key == "data-label")
        assert not [key for key, _ in attributes if key.startswith("on")]


@given(st.lists(LABELS, min_size=2, max_size=3, unique=True))
@few
def test_a_class_of_any_name_is_shown_as_text(names):
    images = None
    with tempfile.TemporaryDirectory() as home:
        for name in names:
            files = []
            for i in range(2):
                path = Path(home, f"{len(files)}{hash(name)}.png")
                path.write_bytes(own(f"{name} {i}"))
                files.append((f"{i}.png", path, ""))
            *_, images = load_files_with_progress(files, class_name=name, existing=images, min_classes=1)
    shown = Words(render_dataset(images))
    assert shown.tags <= {"div", "p", "b", "span", "ul", "li", "img", "button", "details", "summary", "figure"}
    assert shown.labels == {*images.classes}
    for name in images.classes:
        assert name in shown.words
    images.close()


@given(st.lists(st.tuples(LABELS, LABELS), max_size=5))
@few
def test_a_table_holds_any_name_and_starts_no_formula(rows):
    read = list(csv.reader(io.StringIO(format_csv(["file", "reason"], rows), newline="")))
    assert len(read) == len(rows) + 1
    for cells, row in zip(read[1:], rows, strict=True):
        assert not any(cell.lstrip()[:1] in tuple("=+-@") for cell in cells)
        assert [cell.removeprefix("'") for cell in cells] == [cell.removeprefix("'") for cell in row]
