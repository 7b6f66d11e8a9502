"""timm without torch's compiler: it is not imported, and still there for those who call it."""

import subprocess
import sys

import pytest
from support.imports import ROOT

MADE = """
import sys
import torch
from stages.backbones import BackboneSettings, create_backbone, plan_token_shape

settings = BackboneSettings(name="test_vit.r160_in1k", weights="random")
plan_token_shape(settings, input_size=(32, 64), dtype="float16")
made = create_backbone(settings, input_size=(32, 64))
with torch.inference_mode():
    made.tokens(torch.zeros(1, 3, 32, 64))
assert not {"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)
"""

#: Who asks the compiler afterwards gets its own answer.
ASKED = """
from torchvision.ops import roi_align
import torchvision.ops.roi_align as module
from timm.models.naflexvit import NaFlexRopeIterator
module = sys.modules["torchvision.ops.roi_align"]
assert isinstance(module.is_compile_supported("cpu"), bool)
import torch._dynamo.utils
assert torch._dynamo.utils.counters is not None
assert torch.compiler.disable.__module__ == "torch.compiler"
compiled = torch.compile(lambda x: x + 1, backend="eager")
assert compiled(torch.ones(1)).item() == 2
"""


@pytest.mark.parametrize("first", ["", "import torch._dynamo\n"])
def test_a_backbone_needs_no_compiler(first):
    code = first + (MADE if not first else MADE.rsplit("assert", 1)[0]) + ASKED
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
