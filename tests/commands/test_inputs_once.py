"""Inputs of one `vitv1 run`: a recording is read, an image hashed and a cache opened once."""

from collections import Counter

import pytest
from support.tiny import write_experiment

from pipeline.cli.main import main

pytestmark = pytest.mark.usefixtures("no_figures")

EVERYTHING = """
[finetune]
blocks = [1]
tokens = ["patch"]
last = [0, 1]
epochs = 1
protocol = "minimodel-vit"

[baseline]
models = ["cnn_fullmodel", "cnn_minimodel"]
kernels = [5, 3]
channels = [2, 3]
input_size = [12, 16]
epochs = [1]
minimodel = { channels = 2 }
"""


@pytest.fixture
def counts(monkeypatch):
    """How often inputs are read, hashed and opened while the plan is made and carried out."""
    import pipeline.variant.inputs as inputs
    import pipeline.variant.local_copy as local_copy

    counted = Counter()

    def count(module, name, size=lambda *_: 1):
        whole = getattr(module, name)

        def counting(*arguments, **options):
            counted[name] += size(*arguments)
            return whole(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    count(inputs, "read_recording")
    count(inputs, "digest_recording")
    count(inputs, "digest", lambda stimuli: len(stimuli))
    count(local_copy, "open_cache")
    return counted


def test_a_run_of_everything_reads_each_input_once(tmp_path, counts):
    path = write_experiment(tmp_path)
    path.write_text(path.read_text() + EVERYTHING)
    assert main(["run", str(path), "--quiet"]) == 0
    # 12 training, 4 validation and 3 test images; the cache is opened when it has been made.
    assert counts == {"read_recording": 1, "digest_recording": 1, "digest": 19, "open_cache": 1}
    counts.clear()
    assert main(["run", str(path), "--quiet"]) == 0
    assert counts == {"read_recording": 1, "digest_recording": 1, "digest": 19, "open_cache": 1}


def test_variants_share_their_inputs(tmp_path, counts):
    path = write_experiment(tmp_path)
    sweep = ["--set", "run.seed=[0, 1]", "--set", "stimuli.upsample=[1, 2]"]
    assert main(["run", str(path), "--quiet", *sweep]) == 0
    assert counts["read_recording"] == counts["digest_recording"] == 1 and counts["digest"] == 19
