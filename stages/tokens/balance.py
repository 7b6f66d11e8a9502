"""Balance of several sources of tokens: none has more variance in total than another."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stages.tokens.tokens import Tokens, partitions, read_ahead


def balancing(totals: Sequence[float]) -> list[float]:
    """What the tokens of each source are divided by, from its variance summed over channels.

    All have the mean of their variances then. A source that never varies is left as it is.
    """
    mean = sum(totals) / len(totals)
    return [(total / mean) ** 0.5 if total > 0 else 1.0 for total in totals]


def channel_scale(tokens: Tokens, sources: Sequence[int]) -> torch.Tensor | None:
    """What channels are divided by so that all sources count alike; None where there is one.

    Parameters
    ----------
    tokens : Tokens
        Of the training trials.
    sources : sequence of int
        Channels of each source; empty where there is one.

    Returns
    -------
    tensor of shape (n_channels,)
        float32, from the variance around each position's mean.
    """
    if len(sources) < 2:
        return None
    total = torch.zeros(tokens.shape[1:], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for _, _, part in read_ahead(tokens, partitions(tokens.shape)):
        x = part.cpu().double()
        total += x.sum(dim=0)
        squares += x.square().sum(dim=0)
    n_trials = max(1, tokens.shape[0])
    variance = (squares / n_trials - (total / n_trials).square()).clamp(min=0).mean(dim=(0, 1))
    scales = balancing([float(part.sum()) for part in variance.split(list(sources))])
    return torch.tensor(scales).repeat_interleave(torch.tensor(sources))
