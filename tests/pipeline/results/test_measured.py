"""Measured test responses beside the predictions: enough for any metric, without the recording."""

import numpy as np
import pytest
import zarr
from support.runs import recording_of

from pipeline import commands
from pipeline.experiment import load_experiment
from pipeline.results.tables import read_neurons
from pipeline.terminal import Terminal
from stages.feve import fev_and_feve
from stages.scores import cc_norm

pytestmark = pytest.mark.usefixtures("no_figures")


def test_they_are_the_recordings_and_give_the_tables_scores(tuned_run):
    run = load_experiment(tuned_run).output
    store = zarr.open_group(str(run / "results/predictions.zarr"), mode="r")
    measured, recording = store["measured-mouse"], recording_of(tuned_run)
    assert measured["response"].metadata.dimension_names == ("image", "repeat", "neuron")
    r = measured["response"][:]
    np.testing.assert_array_equal(r, recording.test_responses)
    np.testing.assert_array_equal(measured["image"][:], recording.test_image_ids)
    np.testing.assert_array_equal(measured["neuron"][:], recording.neurons)
    table = read_neurons(run).query("tuning == 'last1'")
    (name,) = [name for name in store if "-last1-" in name]
    predictions = store[name]["test"][:]
    np.testing.assert_allclose(fev_and_feve(r, predictions)[1], table["feve"], rtol=1e-5)
    np.testing.assert_allclose(cc_norm(r, predictions), table["cc_norm"], rtol=1e-5)


def test_damaged_ones_are_written_again(tuned_run, run_copy):
    file = load_experiment(tuned_run, [run_copy])
    chunk = file.output / "results/predictions.zarr/measured-mouse/response/c/0/0/0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1])
    commands.run(file, Terminal(quiet=True))
    assert chunk.read_bytes() == whole
