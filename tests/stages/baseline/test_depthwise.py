"""The depthwise convolution against torch's own."""

import pytest
import torch
from torch.nn import functional

from stages.baseline.depthwise import depthwise_conv2d


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 13])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients_are_torchs(size, layout):
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(3, 8, 6, 11, generator=generator).contiguous(memory_format=layout)
    kernels = torch.randn(8, 1, size, size, generator=generator)
    upstream = torch.randn(3, 8, 6, 11, generator=generator)
    x.requires_grad_()
    kernels.requires_grad_()
    ours = depthwise_conv2d(x, kernels)
    torchs = functional.conv2d(x, kernels, padding=size // 2, groups=8)
    torch.testing.assert_close(ours, torchs)
    for one, other in zip(
        torch.autograd.grad(ours, (x, kernels), upstream),
        torch.autograd.grad(torchs, (x, kernels), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_gradients_are_right_in_double_precision():
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(3, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(depthwise_conv2d, (x, kernels))


def test_what_is_frozen_gets_no_gradient():
    x = torch.randn(2, 3, 4, 6)
    kernels = torch.randn(3, 1, 5, 5, requires_grad=True)
    depthwise_conv2d(x, kernels).sum().backward()
    assert kernels.grad is not None and x.grad is None
