"""What comes from elsewhere, on a terminal: shown, and not obeyed."""

import json

import pytest
from support.faults import make_store

from pipeline.cli.main import main
from pipeline.terminal import Terminal, printable

#: It clears the screen, sets a title, goes back on the line, and forges a line.
HOSTILE = "a\x1b[2J\x1b]0;t\x07\rb\x9b1m\u202ec\nvitv1: fine [red]d[/red] :smile: é"
SHOWN = r"a\x1b[2J\x1b]0;t\x07\rb\x9b1m\u202ec\nvitv1: fine [red]d[/red] :smile: é"


def test_unseen_characters_are_escapes():
    assert printable(HOSTILE) == SHOWN
    assert printable("a\nb\tc\udc1b", lines=True) == "a\nb\tc\\udc1b"


@pytest.mark.parametrize("terminal", [True, False])
def test_everything_that_is_printed(capsys, monkeypatch, terminal):
    monkeypatch.setenv("COLUMNS", "300")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Terminal()
    screen.note(HOSTILE)
    screen.result(HOSTILE)
    screen.table([{HOSTILE: HOSTILE}], title=HOSTILE.replace("\n", "+"))
    with screen.bar(HOSTILE, total=1, unit="files") as done:
        done(1, HOSTILE)
    with screen.transfer(HOSTILE, total=1), screen.busy(HOSTILE):
        pass
    told = capsys.readouterr()
    said = told.out + told.err
    assert SHOWN in told.out and SHOWN in told.err
    assert not [bad for bad in ("\x1b[2J", "\x1b]0", "\x07", "\x9b", "\u202e") if bad in said]
    assert not [line for line in said.splitlines() if line.startswith("vitv1")]


def test_secrets_of_urls_are_never_printed(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    url = "written to https://lab:s3cr3t@lab.example/a.zarr?key=s3cr3t, done"
    screen = Terminal()
    screen.note(url)
    screen.result(url)
    screen.table([{"url": url}], title=url)
    with screen.bar(url, total=1, unit="files") as done:
        done(1, url)
    Terminal(as_json=True).document({"place": url, "places": [url]})
    told = capsys.readouterr()
    assert "s3cr3t" not in told.out + told.err
    assert told.out.count("lab.example/a.zarr, done") == 5


def test_errors(capsys, tmp_path):
    assert main(["run", str(tmp_path / "\x1b[2J.toml")]) == 2
    assert r"\x1b[2J.toml: no such experiment file" in capsys.readouterr().err


def test_the_provenance_of_a_cache(capsys, tmp_path):
    path = make_store(tmp_path / "c.zarr", provenance={"host": HOSTILE})
    assert main(["cache", "info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "provenance.host" in said and SHOWN in said and "\x1b" not in said
    assert main(["cache", "info", str(path), "--json"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["provenance"]["host"] == HOSTILE and "\x1b" not in said
