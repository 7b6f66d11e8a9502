"""Made-up result tables for tests of figures, statistics and the report."""

import re

import numpy as np
import pandas as pd

from pipeline.results.resolution import resolutions
from stages.conditions import IDENTITY, Condition
from stages.feve import VALID_FEV


def neurons_table(
    *, blocks=(3, 4, 5), tokens=("patch", "cls"), tunings=("frozen",), models=("vit_small",),
    recordings=("mouse",), seeds=(0,), n_neurons=40, best=4, seed=0, positions=True,
):  # fmt: skip
    """A neurons table in which `best` is the best block, and tuning adds 0.1 a step."""
    rng = np.random.default_rng(seed)
    talent = rng.uniform(0.2, 0.8, n_neurons)
    fev = np.clip(talent + 0.1 * rng.standard_normal(n_neurons), 0, 1)
    frames = []
    for recording in recordings:
        for model in models:
            for tuning in tunings:
                for kind in tokens:
                    for number in seeds:
                        for block in blocks:
                            gain = 0.1 * list(tunings).index(tuning) - 0.02 * abs(block - best)
                            gain -= 0.2 * (kind == "cls")
                            feve = talent + gain + 0.03 * rng.standard_normal(n_neurons)
                            frames.append(
                                pd.DataFrame(
                                    {
                                        "recording": recording, "model": model,
                                        "input_size": "64x128", "tuning": tuning,
                                        "protocol": None if tuning == "frozen" else "matched",
                                        "tokens": kind, "block": block, "blocks": str(block),
                                        "solver": "adamw", "seed": number,
                                        "neuron": np.arange(n_neurons),
                                        "unit_id": np.arange(n_neurons) + 1000,
                                        "x": rng.uniform(0, 900, n_neurons) if positions else None,
                                        "y": rng.uniform(0, 900, n_neurons) if positions else None,
                                        "fev": fev,
                                        "feve": feve,
                                        "feve_se": 0.03,
                                        "val_varexp": feve / 2,
                                        "test_correlation": np.sqrt(np.clip(feve, 0, 1)),
                                        "single_trial_correlation": np.sqrt(fev) / 2,
                                        "cc_norm": np.sqrt(np.clip(feve, 0, 1)),
                                        "r2_er": feve + 0.02,
                                        "n_repeats": 10, "weights": "random", "cache_key": "c" * 64,
                                    }
                                )
                            )  # fmt: skip
    return pd.concat(frames, ignore_index=True).astype({"block": "Int64", "protocol": "string"})


def cnn_table(model="cnn_fullmodel", **changes):
    """A neurons table of a CNN, which reads no block and no tokens."""
    table = neurons_table(blocks=(4,), tokens=("patch",), **changes).assign(
        model=model, tuning="full", protocol=None, tokens=None, blocks=None, input_size="66x130",
        block=pd.NA,
    )  # fmt: skip
    return table.astype({"block": "Int64", "protocol": "string"})


def core_table(backbone="vit_small", **changes):
    """A neurons table of a CNN's core beside a frozen backbone."""
    table = neurons_table(**{"tokens": ("patch",), **changes}).assign(
        model=f"cnn_vit+{backbone}", tuning="core", input_size="66x130+64x128"
    )
    return table.assign(feve=table["feve"] + 0.1)


def full_table(**changes):
    """A neurons table of frozen blocks 3 to 5, four tunings of block 4, and two CNNs."""
    tunings = ("frozen", "last0", "last1", "last2", "full")
    read = {"blocks": (4,), "tokens": ("patch",), "tunings": tunings}
    tuned = neurons_table(**{**changes, **read})
    few = {name: value for name, value in changes.items() if name not in ("models", "tokens")}
    parts = [
        neurons_table(**changes), tuned[tuned["tuning"] != "frozen"], cnn_table(**few),
        cnn_table("cnn_minimodel", **few),
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def summary_of(neurons):
    """The summary table of a neurons table."""
    rows = []
    for identity, group in neurons.groupby(list(IDENTITY), dropna=False, sort=False):
        feve = group.loc[group["fev"] > VALID_FEV, "feve"].dropna()
        rows.append(
            {
                **dict(zip(IDENTITY, identity, strict=True)),
                "n_neurons": len(group),
                "n_valid": len(feve),
                "mean_feve": feve.mean(),
                "sem_feve": feve.sem(),
                "seconds": 1.0,
            }
        )
    return pd.DataFrame(rows).astype({"block": "Int64"})


def resolution_of(neurons):
    """FEVE by spacing: what a model's stride or patch size says, else 4 pixels at the first block.

    Each block doubles those; a CNN has none.
    """
    spacing = {}
    for row in neurons.drop_duplicates([*IDENTITY]).to_dict("records"):
        said = re.search(r"\+(?:stride|patch)(\d+)", row["model"])
        own = 4.0 * 2 ** (row["block"] - 3) if pd.notna(row["block"]) else np.nan
        patches = row["tokens"] == "patch"
        spacing[Condition.from_row(row)] = (float(said[1]) if said else own) if patches else np.nan
    return resolutions(neurons, spacing)


def curves_of(neurons, *, epochs=5):
    """Learning curves for the conditions of a neurons table."""
    frames = [
        pd.DataFrame(
            {
                **dict(zip(IDENTITY, identity, strict=True)),
                "epoch": range(epochs),
                "training_loss": 1 / (1 + np.arange(epochs)),
                "validation_score": 0.1 * np.arange(epochs),
            }
        )
        for identity, _ in neurons.groupby(list(IDENTITY), dropna=False, sort=False)
    ]
    return pd.concat(frames, ignore_index=True)
