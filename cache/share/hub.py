"""The upload to a dataset of the Hugging Face hub, by the hub's own client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cache.errors import CacheError
from cache.stores.address import public_name, public_text
from cache.stores.location import hub_parts

#: Begins the path of what belongs to the card's folder.
BESIDE = "../"

#: Files of one commit at most.
COMMIT = 100


class HubTarget:
    """A folder, or a file's place, in a dataset; the hub's settings hold (HF_TOKEN, HF_ENDPOINT).

    Files that the hub has already are not sent again.

    Parameters
    ----------
    url : str
        Such as "hf://datasets/OWNER/NAME/features.zarr".
    """

    def __init__(self, url: str) -> None:
        self.name = public_name(url)
        found = hub_parts(url)
        if found["kind"] != "datasets" or not found["path"]:
            raise CacheError(
                f"{self.name}: a cache is published in a dataset and has a name there: "
                "hf://datasets/OWNER/NAME/features.zarr"
            )
        self._repo: str = found["repo"]
        self._revision: str | None = found["revision"]
        self._path: str = found["path"]

    @property
    def card_folder(self) -> str:
        """The dataset itself, whose page shows the card."""
        revision = "" if self._revision is None else f"@{self._revision}"
        return f"hf://datasets/{self._repo}{revision}"

    def put(self, files: Sequence[tuple[str, Path | bytes]]) -> Iterator[int]:
        """Upload files by their paths below the cache; yields how many were done at a time."""
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(library_name="vitv1")
        with self._told():
            api.create_repo(self._repo, repo_type="dataset", exist_ok=True)
        for first in range(0, len(files), COMMIT):
            part = files[first : first + COMMIT]
            operations = [CommitOperationAdd(self._at(p), content) for p, content in part]
            with self._told():
                api.create_commit(
                    self._repo,
                    operations,
                    commit_message=f"{self._path}: {len(part)} files",
                    repo_type="dataset",
                    revision=self._revision,
                )
            yield len(part)

    def _at(self, path: str) -> str:
        if path.startswith(BESIDE):
            return path.removeprefix(BESIDE)
        return f"{self._path}/{path}" if path else self._path

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell errors of the client in one line without addresses that sign in, and it no bars."""
        from huggingface_hub.utils.tqdm import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )

        shown = not are_progress_bars_disabled()
        try:
            disable_progress_bars()
            yield
        except Exception as error:  # its libraries raise nearly anything
            reason = public_text(" ".join(str(error).split()))[:300]
            raise CacheError(
                f"{self.name}: the hub refuses or cannot be reached ({reason}): check the name, "
                "HF_TOKEN and its right to write, and the network; what was sent is kept"
            ) from None
        finally:
            if shown:
                enable_progress_bars()
