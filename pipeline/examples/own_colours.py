"""A figure of the report once more, in colours of one's own, beside one made from the tables alone.

python -m pipeline.examples.own_colours runs/demo picture.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import pandas as pd

from pipeline.report.figures import feve_per_block

#: By kind of condition: "frozen", "last0", "last", "full", "cnn".
COLOURS = {"frozen": "#7B3294"}


def main(run: str, picture: str) -> None:
    """Draw FEVE per block with the report's own function, then by hand."""
    summary = pd.read_csv(f"{run}/results/summary.csv")
    neurons = pd.read_parquet(f"{run}/results/neurons.parquet")
    figure, (ours, own) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    feve_per_block(summary, ax=ours, colours=COLOURS)

    frozen = neurons[(neurons["tuning"] == "frozen") & (neurons["fev"] > 0.15)]
    for tokens, colour in (("patch", "#7B3294"), ("cls", "#008837")):
        of_block = frozen[frozen["tokens"] == tokens].groupby("block")["feve"]
        middle, low, high = of_block.median(), of_block.quantile(0.25), of_block.quantile(0.75)
        own.fill_between(middle.index.astype(int), low, high, color=colour, alpha=0.2)
        own.plot(middle.index.astype(int), middle, color=colour, label=tokens)
    blocks = sorted(frozen["block"].unique())
    own.set(xlabel="block", ylabel="FEVE, median and quartiles of neurons", xticks=blocks)
    own.legend(title="tokens")
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])
