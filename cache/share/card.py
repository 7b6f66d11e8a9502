"""The card of a published cache: its recipe, its licence, and how it is opened."""

from __future__ import annotations

import json
from typing import Any

from cache.feature_cache import FeatureCache
from cache.format.identity import DESCRIPTIVE, flatten
from cache.share.copy_plan import Copy

#: First comment of a card; a file without it is somebody else's.
CARD_MARK = "<!-- made by vitv1 cache push -->"

_PLAIN = frozenset(" .,:/-+=()")


def card(copy: Copy, *, url: str, name: str, licence: str | None) -> str:
    """A README.md in Markdown; what is not this code's own text is shown as it is, never obeyed.

    Parameters
    ----------
    url : str
        Where the cache is, without secrets.
    name : str
        The cache's file or folder.
    licence : str, optional
        Of weights and images, in the publisher's words.
    """
    source, contents = copy.source, copy.contents
    packed = name.endswith(".zip")
    opened = f"zip::{name}" if packed else name
    store = f'"{opened}"' if not packed else f'ZipStore("{name}", mode="r")'
    imported = "from zarr.storage import ZipStore\n" if packed else ""
    blocks = ", ".join(map(str, contents["blocks"]))
    kinds, size = ", ".join(contents["arrays"]), f"{copy.n_bytes / 1e9:,.3f} GB"
    rights = _shown(licence or "not stated by who published this; ask before use")
    recipe = "\n".join(f"| {_shown(k)} | {_shown(v)} |" for k, v in _recipe(source))
    return f"""---
license: other
license_name: {json.dumps((licence or "not stated")[:80])}
tags: ["zarr", "vitv1-feature-cache"]
---
{CARD_MARK}
# {_shown(name)}

Tokens that a frozen Vision Transformer gives for {len(source.image_ids):,} images: blocks {blocks}
({kinds}), {size}. It is an ordinary Zarr v3 group; every chunk has a checksum.

**Licence of weights and images**: {rights}

## Open it with xarray alone

```python
import xarray as xr
{imported}
tokens = xr.open_datatree({store}, engine="zarr", consolidated=False, chunks={{}})
tokens["blocks/{contents["blocks"][0]:02d}"]  # rows are named by `image`, the ids of the images
```

## Or with every read checked

```sh
pip install vitv1
vitv1 cache verify {_shown(url)}
vitv1 cache pull {_shown(url)} {_shown(name.removesuffix(".zip"))}
```

## Recipe

Key: `{source.key}`

| setting | value |
|---|---|
{recipe}
"""


def _recipe(source: FeatureCache) -> list[tuple[str, Any]]:
    settings = [(k, v) for k, v in flatten(source.settings) if k not in DESCRIPTIVE]
    made = [(name, source.provenance[name]) for name in ("weights", "stimuli", "created")
            if name in source.provenance]  # fmt: skip
    return [*settings, *((f"made: {name}", value) for name, value in made)]


def _shown(value: Any) -> str:
    """A value as text that is neither Markdown nor HTML, on one line."""
    text = value if isinstance(value, str) else json.dumps(value)
    plain = (c if c.isascii() and (c.isalnum() or c in _PLAIN) else f"&#{ord(c)};" for c in text)
    return "".join(plain)
