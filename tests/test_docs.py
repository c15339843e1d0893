"""What the README and the documents show is true: code runs, commands parse, links lead somewhere, every name is there.

Blocks that are marked ``python`` are run, those of a page in order and with one namespace. Blocks marked ``py`` belong
to another library, or to a test that has a running page (``tests/ui/test_api.py``); they are only parsed. The site
itself is built by ``mkdocs build --strict``, which the gate does.
"""

import ast
import contextlib
import io
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

import headswap
from headswap.cli import commands
from headswap.data import checks
from headswap.export import forms
from headswap.features import inference
from headswap.networks import adaptation, head_registry
from headswap.training import plan as plans

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md"))}
PAGES["README.md"] = (ROOT / "README.md").read_text("utf-8")
OTHERS = PAGES | {"CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text("utf-8")}
OTHER_LIBRARIES = {"fastai", "keras", "gradio_client"}
SIDE = 64  # pixels that the network sees here, instead of 224
EACH = 6  # images of a class


def blocks(text, language):
    """The fenced blocks of a page that are marked with a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


# Code


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The folders that the examples name: a small ``assets/leaves``, ``flowers`` and ``loose`` with the same images."""
    home = tmp_path_factory.mktemp("reader")
    (home / "loose").mkdir()
    flowers = {"healthy": "daisy", "mildew": "rose", "rust": "tulip"}
    for leaf, flower in flowers.items():
        for folder in (home / "assets/leaves" / leaf, home / "flowers" / flower):
            folder.mkdir(parents=True)
        for number, file in enumerate(sorted((ROOT / "assets/leaves" / leaf).iterdir())[:EACH], 1):
            shutil.copyfile(file, home / "assets/leaves" / leaf / file.name)
            shutil.copyfile(file, home / "flowers" / flower / f"{number}.jpg")
            shutil.copyfile(file, home / "loose" / f"{flower}_{number}.jpg")
    shutil.copyfile(home / "flowers/rose/1.jpg", home / "new.jpg")
    return home


@pytest.fixture(scope="module")
def quick():
    """Small pictures and few epochs, so that a page of examples takes seconds; what examples register is taken back."""
    build = adaptation.build_staged_network

    def build_small(*arguments):
        network, preprocess = build(*arguments)
        return network, replace(preprocess, size=SIDE, resize=SIDE + 4)

    def shortened(phase, epochs):
        return replace(phase, epochs=min(phase.epochs, epochs))

    named = {
        name: replace(plan, phases=tuple(shortened(phase, 1) for phase in plan.phases), views=1)
        for name, plan in plans.NAMED_PLANS.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptation, "build_staged_network", build_small)
        patch.setattr(inference, "_choose_engine", lambda *_: "eager")
        patch.setattr(plans, "HEAD_PHASE", shortened(plans.HEAD_PHASE, 3))
        patch.setattr(plans, "UNFROZEN_PHASE", shortened(plans.UNFROZEN_PHASE, 1))
        patch.setattr(plans, "NAMED_PLANS", MappingProxyType(named))
        patch.setattr(plans, "choose_num_views", lambda *_: 1)
        registries = (head_registry._HEADS, checks._CHECKS, forms._EXPORT_FORMS)
        before = [dict(registry) for registry in registries]
        yield
        for registry, content in zip(registries, before, strict=True):
            registry.clear()
            registry.update(content)


@pytest.fixture(scope="module")
def run(home, quick):
    """Runs the blocks of a page once; gives the names that they leave behind, and the lines that each prints."""
    done = {}

    def run_page(page):
        if page not in done:
            names, printed = {"__name__": "reader"}, []
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(shutil.copytree(home, home.with_name(page.replace("/", "-"))))
                for code in blocks(PAGES[page], "python"):
                    with contextlib.redirect_stdout(io.StringIO()) as out:
                        exec(compile(code, page, "exec"), names)
                    printed.append(out.getvalue().splitlines())
            done[page] = names, printed
        return done[page]

    return run_page


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if blocks(text, "python")])
def test_the_code_of_every_page_runs(run, page):
    run(page)


def test_the_readmes_example_trains_judges_and_predicts(run):
    _, [told] = run("README.md")
    assert told[0].startswith("Kept ") and "validation images right" in told[0]
    assert any(line.startswith("class") and "recall" in line for line in told)
    assert {name for name, _ in ast.literal_eval(told[-1])} == {"healthy", "mildew", "rust"}


def test_fit_says_what_was_kept_and_whether_unfreezing_was_worth_it(run):
    names, printed = run("docs/python.md")
    sentences = [line for told in printed for line in told if line.startswith("Kept the weights")]
    assert sentences and "unfreezing changed" in sentences[0]
    assert isinstance(names["report"], headswap.Evaluation)


@pytest.fixture(scope="module")
def trained(run):
    """The names of the page about Python, with a model that its classes fit."""
    images = run("docs/python.md")[0]["images"]
    model = headswap.adapt("efficientnet_lite0", classes=images.classes)
    kept = headswap.fit(model, images, "head only")
    return {"headswap": headswap, "images": images, "model": model, "kept": kept, "plan": "head only"}


@pytest.mark.parametrize("call", re.findall(r"^\| `(headswap\.\w+\(.*?\))` \|", PAGES["docs/python.md"], re.MULTILINE))
def test_every_call_in_the_table_of_the_page_about_python_can_be_made(trained, call):
    events = eval(call, trained)
    assert type(next(events)).__name__ == "FrozenPass"
    events.close()


def test_the_page_about_saving_keeps_the_model_in_every_form(run):
    names, [[proof], *_] = run("docs/saving.md")
    assert "no difference on 5 images, to the last bit" in proof
    assert names["probabilities"].shape == (2, 3)
    assert "import torch" in names["lesson"] and "import headswap" not in names["lesson"]


def test_the_page_about_images_reads_labels_and_finds_nothing_wrong_with_the_sample(run):
    names, printed = run("docs/data.md")
    assert names["tagged"].multi_label and "small" in names["tagged"].classes
    assert names["fewer"].classes == ("healthy", "leaf rust", "mildew") and len(names["fewer"]) == 3 * EACH - 2
    assert names["images"].classes == ("healthy", "mildew", "rust")
    assert not any("contradictions" in line or "copies" in line for told in printed for line in told)


@pytest.mark.parametrize("page", OTHERS)
def test_code_that_is_not_run_is_of_other_libraries_and_parses(page):
    for code in blocks(OTHERS[page], "py"):
        tree = ast.parse(code)
        modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        imported = {module.split(".")[0] for module in modules}
        assert imported & OTHER_LIBRARIES, f"A block of {page} is marked py and uses none of {OTHER_LIBRARIES}."


@pytest.mark.parametrize("page", OTHERS)
def test_every_block_says_what_it_is(page):
    fences = re.findall(r"^ *```(.*)$", OTHERS[page], re.MULTILINE)
    assert len(fences) % 2 == 0
    if page != "CONTRIBUTING.md":
        assert set(fences[::2]) <= {"python", "py", "bash", "powershell", "text"}


# Commands

COMMANDS = sorted(
    {
        line.split("headswap ", 1)[1].split("#")[0].strip()
        for text in OTHERS.values()
        for block in re.findall(r"^ *```bash\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
        if re.match(r" *(\w+=\w+ )*([~.\w]*/)*(bin/)?headswap ", line)
    }
)
# Before an example registers a form, which becomes an option of `export`.
CLI = {name: commands.load_command(name) for name in commands.COMMANDS}


def parsed(line):
    """What the command line makes of a command, without running it."""
    name, *arguments = shlex.split(line)
    assert name in CLI, f"There is no command {name}."
    return CLI[name].make_context(name, arguments)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line, home, monkeypatch):
    monkeypatch.chdir(home)
    for name in ("leaves.headswap", "more.headswap"):  # which earlier commands would have written
        (home / name).touch()
    parsed(line)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.split()[0] in ("heads", "backbones", "check")])
def test_commands_that_only_look_do_so(line, home, monkeypatch):
    monkeypatch.chdir(home)
    assert CliRunner().invoke(commands.cli, shlex.split(line)).exit_code == 0


def test_the_page_about_the_command_line_has_every_command_and_option():
    rows = re.findall(r"^\| (`.*?) \|.*?\| (.*?) \|$", PAGES["docs/command-line.md"], re.MULTILINE)
    told = {name.split()[0].strip("`"): set(re.findall(r"--[\w-]+", options)) for name, options in rows}
    assert told.keys() == CLI.keys()
    for name, command in CLI.items():
        options = {param.opts[0]: param.secondary_opts for param in command.params}
        wanted = {second[0] if second else first for first, second in options.items() if first.startswith("--")}
        assert told[name] == wanted - {"--help"}, name


# Names


def test_the_api_reference_has_every_public_name_once_and_no_other():
    api = "".join(text for page, text in PAGES.items() if page.startswith("docs/api/"))
    assert sorted(re.findall(r"^::: (.*)$", api, re.MULTILINE)) == [f"headswap.{name}" for name in headswap.__all__]


def test_the_overview_of_the_api_lists_every_name_beside_its_page():
    rows = re.findall(r"^\| \[.*?\]\((\w+)\.md(?:#\w+)?\) \| (.*) \|$", PAGES["docs/api/index.md"], re.MULTILINE)
    listed = [(page, name) for page, names in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(name for _, name in listed) == headswap.__all__
    for page, name in listed:
        assert f"::: headswap.{name}\n" in PAGES[f"docs/api/{page}.md"] + "\n"


@pytest.mark.parametrize("page", OTHERS)
def test_every_public_name_that_is_mentioned_exists(page):
    text = re.sub(r"[\w/-]+\.headswap\b|https?://\S+", "", OTHERS[page])
    mentioned = set(re.findall(r"\bheadswap\.([A-Za-z]\w*)", text))
    modules = {path.stem for path in (ROOT / "headswap").iterdir()}
    assert mentioned - modules - set(headswap.__all__) == set()


# Links


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site both make them."""
    text = re.sub(r"^ *```.*?^ *```$", "", OTHERS[page], flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


LINKS = sorted(
    {
        (page, link)
        for page, text in OTHERS.items()
        for link in [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
        if not urlsplit(link).scheme
    }
)


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_every_link_leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.is_file() and target.resolve().is_relative_to(ROOT)
    if page.startswith("docs/"):
        assert target.resolve().is_relative_to(DOCS), "The site has only what is in docs."
    if anchor:
        assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix())


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_linked_to_and_in_the_navigation(page):
    if page != "README.md":
        assert f": {page.removeprefix('docs/')}\n" in (ROOT / "mkdocs.yml").read_text("utf-8")


def test_every_picture_is_shown_and_all_are_small():
    pictures = sorted((DOCS / "img").iterdir())
    shown = {link.split("/")[-1] for _, link in LINKS if "img/" in link}
    assert {path.name for path in pictures} == shown
    assert sum(path.stat().st_size for path in pictures) < 1_000_000


def test_the_site_has_the_pages_logo():
    assert (DOCS / "img/logo.svg").read_bytes() == (ROOT / "assets/logo.svg").read_bytes()


def test_the_readme_is_one_page():
    assert len(PAGES["README.md"].splitlines()) <= 120
