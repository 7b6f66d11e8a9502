"""Speed of a core: seconds for a billion operations of each kind."""

from __future__ import annotations

from collections.abc import Mapping

#: Seconds of one core for a billion operations of each kind; a fit's start costs its own.
#: Measured on one core of a shared server; other machines may differ by a factor of 2 or so.
#: What is spilled is read from a disk at 1 GB/s; small runs, which spill nothing, cannot tell.
#: `python -m benchmarks.costs` fits these rates to whole small runs, and checks what they predict.
RATES: Mapping[str, float] = {
    "start": 0.1,
    "bytes read": 1.2,
    "bytes spilled": 1.0,
    "token products": 0.008,
    "neuron products": 0.006,
    "responses": 30.0,
    "solving": 0.006,
}
