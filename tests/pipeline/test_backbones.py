"""The list of backbones: grids, strides and weights of every block, and models of one size."""

import json

import pytest

from pipeline.cli.main import main


def listed(capsys, *arguments):
    assert main(["backbones", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["models"]


def test_blocks_are_told_with_their_grids(capsys):
    (swin,) = listed(capsys, "swin_tiny_patch4_window7_224.ms_in1k")
    assert swin["weights"] == "timm/swin_tiny_patch4_window7_224.ms_in1k"
    assert swin["licence"] == "mit"
    assert [block["stride"] for block in swin["blocks"]] == [[n, n] for n in (4, 8, 16, 32)]
    assert swin["blocks"][1] == {
        "block": 1, "stride": [8, 8], "grid": [8, 16], "channels": 192, "cls": False, "registers": 0
    }  # fmt: skip


def test_the_size_decides_grids_and_what_cannot_see_it(capsys):
    (model,) = listed(capsys, "efficientformer_l1.")
    assert model["blocks"] == [] and "cannot see an image of 64x128" in model["problem"]
    (model,) = listed(capsys, "efficientformer_l1.", "--size", "224x224")
    assert model["blocks"][-1]["grid"] == [7, 7]


def test_the_table_has_a_line_for_blocks_that_are_alike(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["backbones", "vit_small_patch16_dinov3.", "--size", "32x64"]) == 0
    said = capsys.readouterr().out
    assert "0-11" in said and "2x4" in said and "dinov3-license" in said


def test_many_models_are_named_only(capsys):
    assert main(["backbones", "vit_"]) == 0
    said = capsys.readouterr()
    assert "a longer pattern tells grids" in said.err and "grid" not in said.out.split("\n")[0]


@pytest.mark.parametrize("arguments", [["no such model"], ["dinov3", "--size", "64"]])
def test_bad_arguments_are_refused_in_one_line(arguments, capsys):
    assert main(["backbones", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().split("\n")) == 1
