"""The names from zarr's private modules, all of them: a release of zarr may move or change these.

`sync(coroutine)` gives a coroutine's result to a caller that is not asynchronous. It runs on zarr's
own event loop, in a thread of its own.
"""

from zarr.core.sync import sync as sync
