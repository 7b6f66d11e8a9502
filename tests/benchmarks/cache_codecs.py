"""Codecs and rounding of tokens, compared in size, speed and error."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

CODECS: dict[str, list[BytesBytesCodec]] = {
    "none, no checksum": [],
    "none, CRC32C (format 1)": [Crc32cCodec()],
    "Zstd 1, checksum": [ZstdCodec(level=1, checksum=True)],
    "Blosc LZ4 1 + bitshuffle, CRC32C": [
        BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle", typesize=2),
        Crc32cCodec(),
    ],
    "Blosc Zstd 1 + bitshuffle, CRC32C": [
        BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=2),
        Crc32cCodec(),
    ],
}


def best(work: Callable[[], object], *, times: int = 5) -> float:
    """Shortest of several durations in seconds."""
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        kept = work()
        durations.append(time.perf_counter() - began)
        del kept
    return min(durations)


def compare_codecs(folder: Path, tokens: Mapping[int, NDArray[np.float16]]) -> None:
    """Bytes, writing and reading of one block's patches, for each codec and some roundings."""
    print("\n| codec | bits kept | size | write MB/s | read MB/s | error (rms, relative) |")
    print("|---|---|---|---|---|---|")
    for bits in (10, 9, 7, 5):
        rounded = {block: round_bits(values, bits) for block, values in tokens.items()}
        error = np.mean([relative_error(rounded[b], tokens[b]) for b in tokens])
        for name, codecs in CODECS.items():
            if bits < 10 and not name.startswith("Blosc Zstd"):
                continue
            size, write, read = measure_codec(folder / "codec.zarr", rounded, codecs)
            kept = "10 (all)" if bits == 10 else str(bits)
            print(f"| {name} | {kept} | {size:.3f} | {write:.0f} | {read:.0f} | {error:.1e} |")


def measure_codec(
    path: Path, tokens: Mapping[int, NDArray[np.float16]], codecs: list[BytesBytesCodec]
) -> tuple[float, float, float]:
    """Size relative to the tokens, and MB of tokens written and read per second."""
    n_images, *item = next(iter(tokens.values())).shape
    n_bytes = sum(values.nbytes for values in tokens.values())
    shutil.rmtree(path, ignore_errors=True)
    root = zarr.create_group(path)
    arrays = [
        root.create_array(
            str(block),
            shape=(n_images, *item),
            dtype="float16",
            chunks=(128, *item),
            shards=(1024, *item),
            compressors=codecs,
            config={"write_empty_chunks": True},
        )
        for block in tokens
    ]

    def write() -> None:
        for array, values in zip(arrays, tokens.values(), strict=True):
            array[:] = values

    seconds = best(write, times=15)
    size = sum(file.stat().st_size for file in path.rglob("c/**/*") if file.is_file())
    read = best(lambda: [array[:] for array in arrays], times=60)
    return size / n_bytes, n_bytes / 1e6 / seconds, n_bytes / 1e6 / read


def round_bits(values: NDArray[np.float16], bits: int) -> NDArray[np.float16]:
    """Keep so many of the ten mantissa bits, rounding half to even as numcodecs' BitRound does."""
    dropped = 10 - bits
    if not dropped:
        return values
    whole = values.view(np.uint16)
    half = ((whole >> dropped) & 1) + np.uint16((1 << (dropped - 1)) - 1)
    mask = np.uint16(0xFFFF ^ ((1 << dropped) - 1))
    rounded: NDArray[np.float16] = ((whole + half) & mask).astype(np.uint16).view(np.float16)
    return rounded


def relative_error(values: NDArray[np.float16], true: NDArray[np.float16]) -> float:
    """Root mean square of the difference over that of the tokens."""
    exact = true.astype(np.float32)
    difference = values.astype(np.float32) - exact
    return float(np.sqrt((difference**2).mean() / (exact**2).mean()))
