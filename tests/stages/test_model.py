"""A saved condition as one model: its rates are those that were saved, from pixels on."""

import numpy as np
import pandas as pd
import pytest
import torch
from support.runs import only_variant
from support.tiny import write_experiment

from cache import UserError
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.results.tables import tabulated
from stages import load_model
from stages.readouts import saved_predictions

#: Tokens were stored in float16, which moves rates by so much.
ROUNDING = {"rtol": 5e-3, "atol": 5e-3}

MORE = """
[baseline]
models = ["cnn_fullmodel", "cnn_minimodel"]
kernels = [5, 3]
channels = [4, 6]
batch_size = 8
epochs = [2]
minimodel = { channels = 5 }
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A block, two blocks together, CLS tokens, and both CNNs; a crop, and images of integers."""
    path = write_experiment(tmp_path_factory.mktemp("mouse"), shape=(18, 40))
    text = path.read_text().replace("[stimuli]", "[stimuli]\ncrop = [4, 36]")
    text = text.replace("[readout]", "[readout]\nblocks = [1]\njoint_blocks = [[0, 2]]")
    path.write_text(text + MORE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.commands.report_run", lambda run, terminal: [run / "report.html"])
        assert main(["run", str(path), "--quiet"]) == 0
    return path


def output_of(path):
    return load_experiment(path).output


def assert_predicts_what_was_saved(path):
    """Every condition of a run; the number of them."""
    run, stimuli = output_of(path), only_variant(path).stimuli
    conditions = tabulated(run)
    for condition in conditions:
        model = load_model(run, **condition.identity())
        saved = saved_predictions(run, condition)
        rates = model.predict(stimuli.read(saved.images), progress=False)
        np.testing.assert_allclose(rates, saved.predictions, err_msg=str(condition), **ROUNDING)
        # What varies from image to image is far larger than the rounding.
        assert (saved.predictions.std(axis=0) > 10 * np.abs(rates - saved.predictions).max()).any()
    return len(conditions)


def test_every_tuning_predicts_what_was_saved(tuned_run):
    assert assert_predicts_what_was_saved(tuned_run) >= 4


def test_blocks_together_cls_tokens_and_cnns_predict_what_was_saved(run):
    assert assert_predicts_what_was_saved(run) == 2 * 2 + 2


@pytest.mark.parametrize("model", [None, "cnn_fullmodel", "cnn_minimodel"])
def test_the_module_is_differentiable_down_to_the_pixels(run, model):
    identity = {"model": model} if model else {"tokens": "patch", "blocks": "1"}
    loaded = load_model(output_of(run), **identity)
    stimuli = only_variant(run).stimuli
    raw = torch.from_numpy(stimuli.read(stimuli.ids[:2])).double().requires_grad_()
    rate = loaded.module(raw)[0, 3]
    (gradient,) = torch.autograd.grad(rate, raw)
    assert torch.isfinite(gradient).all() and not gradient[1].any()
    # A ViT sees nothing beyond the crop. Along its gradient a rate rises as the gradient says.
    assert gradient[0].abs().max() > 0 and (model or not gradient[0, :, :3].any())
    step = 10 / gradient[0].norm()
    with torch.no_grad():
        there, back = (loaded.module(raw + s * step * gradient)[0, 3] for s in (1, -1))
    assert (there - back).item() == pytest.approx(20 * gradient[0].norm().item(), rel=0.2)


def test_images_of_another_size_or_that_are_none_are_refused(run):
    model = load_model(output_of(run), tokens="cls", blocks="1")
    for images, said in (
        (np.zeros((2, 18, 32)), r"18 x 32 pixels.*18 x 40"),
        (np.zeros((18, 40)), "images have shape"),
        (np.full((2, 18, 40), np.nan), "image 0 has pixels that are not finite"),
        (np.zeros((2, 18, 40), bool), "images"),
    ):
        with pytest.raises(UserError, match=said):
            model.predict(images)
    assert model.predict(np.zeros((0, 18, 40))).shape == (0, 6)


def test_one_condition_must_be_singled_out(run):
    with pytest.raises(UserError, match="6 conditions with nothing"):
        load_model(output_of(run))
    with pytest.raises(UserError, match="load_model: neuron is not one of"):
        load_model(output_of(run), neuron=3)


def test_other_weights_and_damaged_files_are_refused(run, tmp_path):
    import shutil

    with pytest.raises(UserError, match="weights are not those that the readouts were fitted with"):
        load_model(output_of(run), tokens="cls", blocks="1", weights=_other_weights(tmp_path))
    shutil.copytree(output_of(run), tmp_path / "copy")
    (kept,) = (tmp_path / "copy/tuned").glob("*cnn_fullmodel*")
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(UserError, match="changed on disk"):
        load_model(tmp_path / "copy", model="cnn_fullmodel")


def _other_weights(folder):
    from safetensors.torch import save_file
    from support.tiny import FAMILIES

    from stages.backbones import BackboneSettings, create_backbone

    settings = BackboneSettings(**FAMILIES["dinov3"], weights="random", seed=7)
    backbone = create_backbone(settings, input_size=(32, 64))
    save_file(backbone.model.state_dict(), folder / "other.safetensors")
    return folder / "other.safetensors"


def test_neurons_are_those_of_the_tables(run):
    table = pd.read_parquet(output_of(run) / "results/neurons.parquet")
    model = load_model(output_of(run), model="cnn_minimodel")
    rows = table[table["model"] == "cnn_minimodel"]
    np.testing.assert_array_equal(model.neurons, rows["neuron"])
