"""Guides of the repository: their blocks run, their settings and links are those of the code."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
import tomllib
import typing
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
import typer
from pydantic import TypeAdapter
from support.servers import nginx

from cache import open_cache
from pipeline.cli.app import app
from pipeline.cli.main import main
from pipeline.experiment import Experiment, load_experiment
from pipeline.workers import check_run
from stages.recordings import FORMATS
from stages.settings import ByteSize

ROOT = Path(__file__).parents[1]
GUIDES = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"{p}/README.md" for p in ("cache", "stages", "pipeline")),
)
PAGES = (*GUIDES, "CHANGELOG.md", "cache/FORMAT.md")

#: A web server that blocks name.
LAB = "https://lab.example/"

#: An experiment that runs in seconds, under the names that blocks use.
TINY = """
[recording]
format = "synthetic"
name = "planted"
synthetic = { n_training = 120, n_validation = 30, n_test = 20, n_neurons = 12 }
[stimuli]
input_size = [32, 64]
[backbone]
name = "vit_small_patch16_dinov3"
weights = "random"
arguments = { depth = 6, embed_dim = 48, num_heads = 3 }
[run]
device = "cpu"
workers = 1
"""

_BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.M)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_ROW = re.compile(r"^\| `(\w+)` \|(.*?)\|", re.M)
_PATH = re.compile(r"`((?:cache|stages|pipeline|tests)/[\w/.-]+)`")
_TEST = re.compile(r"`(test_\w+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.M)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a guide, and why it is not run, if it is not."""

    place: str
    language: str
    text: str
    reason: str | None

    def commands(self) -> Iterator[list[str]]:
        """The words of every line of a shell block."""
        for line in self.text.splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def read(guide: str) -> str:
    return (ROOT / guide).read_text("utf-8")


def blocks(guide: str) -> list[Block]:
    text = read(guide)
    return [
        Block(f"{guide}:{text.count(chr(10), 0, found.start(3))}", found[2], found[3], found[1])
        for found in _BLOCK.finditer(text)
    ]


ALL = [block for guide in GUIDES for block in blocks(guide)]


# blocks that run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished run of a tiny experiment."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("pipeline.commands.report_run", lambda run, terminal: [run / "report.html"])
        for name in ("demo.toml", "my.toml"):
            Path(name).write_text(TINY)
        assert main(["run", "demo.toml", "--quiet"]) == 0
    return folder


@pytest.fixture
def folder(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None) -> Path:
    """A copy of it, with everything else that blocks name, as working directory."""
    here = tmp_path / "work"
    shutil.copytree(demo, here)
    shutil.copytree(here / "runs/demo/features.zarr", here / "features.zarr")
    shutil.copytree(ROOT / "pipeline/experiments", here / "pipeline/experiments")
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def formats() -> Iterator[None]:
    """Formats that a block registers are gone afterwards."""
    known = dict(FORMATS)
    yield
    FORMATS.clear()
    FORMATS.update(known)


def arrays() -> dict[str, object]:
    """Tokens and responses by the names that blocks use."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 2, 3, 8)).astype(np.float32)
    r = np.log1p(np.exp(x[:, 0, 1] @ rng.normal(size=(8, 4))))
    repeats = rng.poisson(r[:20, None], size=(20, 5, 4)).astype(float)
    repeats[0, 3:] = np.nan
    trials = {"x_train": x[:100], "r_train": r[:100], "x_val": x[100:], "r_val": r[100:]}
    return trials | {"x": x[:20], "r_repeats": repeats, "predictions": r[:20]}


@pytest.mark.parametrize("guide", GUIDES)
def test_blocks_run(guide: str, folder: Path, tmp_path: Path, formats: None) -> None:
    """Every block of a guide, in order; names of Python blocks go from one to the next."""
    names, address = arrays(), ""
    runnable = [block for block in blocks(guide) if block.reason is None]
    with ExitStack() as stack:
        if any(block.language == "sh" and LAB in block.text for block in runnable):
            # Without nginx the cache is read from the folder.
            with suppress(pytest.skip.Exception):
                web = stack.enter_context(nginx(tmp_path))
                shutil.copytree("features.zarr", web.files / "features.zarr")
                address = web.url("")
        for block in runnable:
            if block.language == "python":
                exec(compile(block.text, block.place, "exec"), names)
            elif block.language == "sh":
                for program, *words in block.commands():
                    words = [word.replace(LAB, address) for word in words]
                    assert program == "vitv1" and main(words) == 0, (block.place, words)
            else:
                assert block.language == "toml"
                if block.text.startswith("# "):
                    Path(block.text.split()[1]).write_text(block.text)
    CHECKS.get(guide, len)(names)


def check_cache(names: dict[str, typing.Any]) -> None:
    assert names["x"].shape == (3, 2, 4, 48)
    for path, held in (("own.zarr", [0, 1]), ("patches.zarr", [3, 4]), ("part.zarr", [3, 4])):
        assert open_cache(path).complete and open_cache(path).blocks == held
    for path in ("copy.zarr.zip", "features.zarr.zip"):
        assert open_cache(path).key == open_cache("features.zarr").key


CHECKS = {"cache/README.md": check_cache}


# blocks that do not


@pytest.mark.parametrize(
    "block", [b for b in ALL if b.reason], ids=lambda b: f"{b.place} {b.reason}"
)
def test_commands_that_are_not_run_exist(block: Block) -> None:
    """Commands, options and files of blocks that need a network, a cluster or time are there."""
    assert block.language == "sh"
    for program, *words in block.commands():
        if program == "make":
            subprocess.run(["make", "-n", *words], cwd=ROOT, check=True, capture_output=True)
        elif program == "vitv1":
            parse(words)
        else:
            assert program in (".", ".venv/bin/python", "dask"), block.place
        for word in words:
            if word.startswith(("pipeline/", "tests/")):
                assert (ROOT / word).exists(), (block.place, word)


def parse(words: list[str]) -> None:
    """Parse a command line and do nothing; an unknown command or option raises."""
    command: typing.Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context("vitv1", rest)


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "toml"], ids=lambda b: b.place)
def test_settings_are_valid(block: Block, tmp_path: Path, formats: None) -> None:
    """Tables that a guide shows, whole experiments or parts, are accepted."""
    FORMATS.setdefault("npz", FORMATS["synthetic"])  # CONTRIBUTING.md adds it
    path = tmp_path / "experiment.toml"
    path.write_text(block.text)
    for experiment in load_experiment(path, allowed=["--allow-cluster"]).variants:
        check_run(experiment.run)


# the reference of settings


def tables(schema: type, name: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """Every table of a schema by its name, with its keys and their defaults."""
    keys = {}
    for key, field in schema.__pydantic_fields__.items():
        hint = typing.get_type_hints(schema)[key]
        inner = [t for t in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(t)]
        if inner:
            yield from tables(inner[0], f"{name}.{key}".lstrip("."))
        elif field.is_required():
            keys[key] = "required"
        else:
            default = field.get_default(call_default_factory=True)
            keys[key] = TypeAdapter(typing.Any).dump_python(default, mode="json")
    if keys:
        yield name, keys


def told() -> dict[str, dict[str, str]]:
    """The keys of every table in the guide to the pipeline, and their defaults as written."""
    found = {}
    for section in re.split(r"^### ", read("pipeline/README.md"), flags=re.M)[1:]:
        heading, _, text = section.partition("\n")
        text = text.partition("\n## ")[0]
        for name in re.findall(r"`\[([\w.]+)\]`", heading):
            found[name] = dict(_ROW.findall(text))
    return found


def test_every_setting_is_explained_with_its_default() -> None:
    schema = dict(tables(Experiment))
    assert {
        table: {key: written(cell.strip()) for key, cell in keys.items()}
        for table, keys in told().items()
    } == schema


def written(cell: str) -> object:
    """A default as the guide writes it."""
    if cell in ("", "required"):
        return cell or None
    value = tomllib.loads(f"value = {cell.strip('`')}")["value"]
    is_size = isinstance(value, str) and value.endswith("GB")
    return TypeAdapter(ByteSize).validate_python(value) if is_size else value


# the pages


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) < 150
    assert {"make demo", "make test"} <= set(re.findall(r"make \w+", read("README.md")))
    assert (ROOT / "pipeline/report/demo.png").stat().st_size < 150_000


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in _LINK.findall(read(page)):
        target, _, part = link.partition("#")
        if not target.startswith("http"):
            path = (ROOT / page).parent / target if target else ROOT / page
            assert path.exists(), link
            if part:
                headings = _HEADING.findall(path.read_text("utf-8"))
                assert part in map(anchor, headings), link


def test_files_and_tests_that_are_named_exist() -> None:
    paths = {path for page in PAGES for path in _PATH.findall(read(page)) if "npz" not in path}
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    rules = read("tests/test_layers.py") + read("tests/test_writing.py")
    assert all(f"def {name}(" in rules for name in _TEST.findall(read("CONTRIBUTING.md")))


def anchor(heading: str) -> str:
    """What links to a heading say."""
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")
