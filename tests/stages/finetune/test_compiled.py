"""Compiled models: the same numbers, and what happens where torch cannot compile."""

import warnings
from functools import partial

import pytest
import torch
from support.tiny import FAMILIES
from torch import nn

from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings
from stages.finetune.compiled import compiled
from stages.finetune.model import TunedViT
from stages.readouts.readout import Readout


def test_a_tuned_model_can_be_traced_with_its_gradients(monkeypatch):
    """By the backend that needs no C++ compiler: generating code takes half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    settings = BackboneSettings(weights="random", **FAMILIES["dinov3"])
    readout = Readout(
        row_weights=torch.rand(3, 2),
        column_weights=torch.rand(3, 4),
        channel_weights=torch.randn(3, 48),
        bias=torch.zeros(3),
    )
    backbone = create_backbone(settings, input_size=(32, 64))
    model = TunedViT(backbone, readout, block=1, last=1, start="cache")
    tokens = torch.randn(5, 13, 48)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = compiled(model, what="the model")(tokens)
    parameters = [*model.backbone_parameters(), *model.readout_parameters()]
    gradients = torch.autograd.grad(found.square().sum(), parameters)
    expected = model(tokens)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        gradients, torch.autograd.grad(expected.square().sum(), parameters), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_without_a_compiler_the_model_runs_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/absent/g++",))
    module, inputs = nn.Sequential(nn.Linear(7, 3), nn.GELU()), torch.randn(4, 7)
    forward = compiled(module, what="finetune.compile: the model")
    with pytest.warns(UserWarning, match=r"finetune.compile: .* is not compiled .*compiler"):
        outputs = forward(inputs)
    assert torch.equal(outputs, module(inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(forward(inputs[:2]), module(inputs[:2]))


def test_errors_of_the_model_itself_are_not_swallowed(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    with pytest.raises(RuntimeError, match="shapes"):
        compiled(nn.Linear(5, 3), what="the model")(torch.zeros(2, 4))
