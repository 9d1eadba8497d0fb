"""safetensors files, written in a stream and read by memory map: no tensor is ever copied as a whole.

A file is 8 bytes of header length, a JSON header (tensor name -> dtype, shape, begin and end of its bytes),
and the bytes of all tensors. The `safetensors` package reads and writes the same files. It copies each tensor
to write it, which a shard of half the memory doesn't survive. Its reader maps tensors as this one does (400
MB in 13 ms, none of it read; as numpy arrays it copies them, 392 ms), but doesn't hand out the header's
bytes: whoever compares their checksum has parsed them, and the package would save one `np.memmap`.

The header's `__metadata__` holds the checksum of each tensor (`checksum/<name>`), and of the header itself
with that checksum's digits as zeros (`checksum`). Whoever reads a tensor compares them. Files of before have
XXH64 at `xxh64/<name>` and `xxh64`, which are compared likewise. Files without are taken as they are.

Source: https://github.com/huggingface/safetensors, README.md, section "Format".
"""

import json
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmm_spark.contracts.errors import InputError
from esmm_spark.files import storage
from esmm_spark.runtime.checksums import NUM_DIGITS, checksum_of, checksum_of_pieces, is_checksum_of

_DTYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_WRITE_BYTES = 32 << 20
_METADATA, _CHECKSUM, _CHECKSUM_BEFORE = "__metadata__", "checksum", "xxh64"
# The format's own limit, so that a corrupt length doesn't ask for petabytes.
_MAX_HEADER_BYTES = 100_000_000


def write_tensors(uri: str, tensors: Mapping[str, Tensor]) -> None:
    """Writes the safetensors file at `uri` through a temporary name: a reader sees all of it or nothing.

    Args:
        uri: any file system.
        tensors: name -> float or int tensor; views, and tensors on a GPU, are copied 32 MiB at a time.
    """
    # The checksums stand before the tensors, so these are passed over twice.
    header = _header(tensors)
    with storage.writing(uri) as stream:
        stream.write(header)
        for tensor in tensors.values():
            for block in _blocks(tensor):
                stream.write(block)


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Returns the content of a safetensors file of `tensors`: the same bytes for the same values."""
    blocks = (block.tobytes() for tensor in tensors.values() for block in _blocks(tensor))
    return b"".join((_header(tensors), *blocks))


def map_tensors(
    path: str, names: Collection[str] | None = None, compare: bool = True
) -> dict[str, npt.NDArray[Any]]:
    """Returns name -> array of the local safetensors file at `path`, memory-mapped.

    Their checksums are compared, in the pages that processes share: nothing is read into memory of its own.

    Processes that map the same file share its pages. The map is copy-on-write, because torch takes no
    read-only memory; a page stays shared until someone writes to it, and the file never changes.

    Args:
        path: the file.
        names: the tensors that are wanted, if they are in it; if None, all.
        compare: False leaves the tensors unread until someone does.

    Raises:
        InputError: no such file, or it is truncated or corrupt.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no file at {path}")
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        header_bytes = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        header = stream.read(header_bytes) if header_bytes <= _MAX_HEADER_BYTES else b""
    entries, checksums = _parse_header(path, header, size - 8 - header_bytes)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, (dtype, shape, begin, end) in entries.items():
        if names is not None and name not in names:
            continue
        # An empty file region can't be mapped.
        arrays[name] = (
            np.memmap(file, dtype, mode="c", offset=8 + header_bytes + begin, shape=shape)
            if end > begin
            else np.empty(shape, dtype)
        )
        if compare:
            _compare(path, name, arrays[name], checksums)
    return arrays


def read_tensors(uri: str) -> dict[str, Tensor]:
    """Returns name -> tensor of the safetensors file at `uri`, in memory: for small ones, on any file system.

    Raises:
        InputError: no such file, or it is truncated or corrupt.
    """
    content = storage.read_bytes(uri)
    header_bytes = struct.unpack_from("<Q", content)[0] if len(content) >= 8 else 0
    body = content[8 + header_bytes :]
    entries, checksums = _parse_header(uri, content[8 : 8 + header_bytes], len(content) - 8 - header_bytes)
    tensors: dict[str, Tensor] = {}
    for name, (dtype, shape, begin, end) in entries.items():
        array = np.frombuffer(body[begin:end], dtype).reshape(shape).copy()
        _compare(uri, name, array, checksums)
        tensors[name] = torch.from_numpy(array)
    return tensors


def _compare(where: str, name: str, array: npt.NDArray[Any], checksums: Mapping[str, str] | None) -> None:
    """Raises InputError unless the tensor has its checksum; without checksums it is taken as it is."""
    if checksums is not None and not is_checksum_of(checksums.get(name, ""), array):
        raise InputError(f"{where} is corrupt: tensor {name} is not what was written")


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Returns the length of the header and the header, padded, with the checksums of all tensors."""
    no_checksum = _without_digits(checksum_of(b""))
    metadata = {_CHECKSUM: no_checksum}
    metadata |= {
        f"{_CHECKSUM}/{name}": checksum_of_pieces(_blocks(tensor)) for name, tensor in tensors.items()
    }
    entries: dict[str, Any] = {_METADATA: metadata}
    begin = 0
    for name, tensor in tensors.items():
        dtype = _NAMES[tensor.new_empty(0).cpu().numpy().dtype]
        end = begin + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    # Padded, as the format asks, so that the first tensor begins at a multiple of 8.
    text += b" " * (-len(text) % 8)
    text = text.replace(no_checksum.encode(), checksum_of(text).encode(), 1)
    return struct.pack("<Q", len(text)) + text


def _without_digits(checksum: str) -> str:
    return checksum[:-NUM_DIGITS] + "0" * NUM_DIGITS


def _blocks(tensor: Tensor) -> Iterator[npt.NDArray[Any]]:
    """Yields the tensor's elements as contiguous arrays of at most about 32 MiB."""
    flat = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
    row_bytes = flat[:1].numel() * flat.element_size()
    step = max(1, _WRITE_BYTES // max(1, row_bytes))
    for start in range(0, len(flat), step):
        yield flat[start : start + step].contiguous().cpu().numpy()


def _parse_header(
    where: str, header: bytes, body_bytes: int
) -> tuple[dict[str, tuple[type[np.generic], tuple[int, ...], int, int]], dict[str, str] | None]:
    """Returns name -> (dtype, shape, begin, end) after holding every number against the file's size.

    Beside it name -> checksum, or None if the file has no checksums.
    """
    problem = "its header is no safetensors header"
    try:
        content = json.loads(header)
        checksums = _checksums_in(where, header, content.get(_METADATA, {}))
        entries = {}
        end_of_all = 0
        for name, entry in content.items():
            if name == _METADATA:
                continue
            dtype = _DTYPES[entry["dtype"]]
            shape = tuple(int(length) for length in entry["shape"])
            begin, end = (int(offset) for offset in entry["data_offsets"])
            num_bytes = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
            if min(shape, default=0) < 0 or begin < 0 or end - begin != num_bytes:
                raise ValueError(name)
            entries[name] = (dtype, shape, begin, end)
            end_of_all = max(end_of_all, end)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} is corrupt or cut short: {problem}") from error
    if end_of_all != body_bytes:
        raise InputError(
            f"{where} is corrupt or cut short: it has {body_bytes} bytes of tensors, "
            f"its header says {end_of_all}"
        )
    return entries, checksums


def _checksums_in(where: str, header: bytes, metadata: Mapping[str, str]) -> dict[str, str] | None:
    """Returns name -> checksum, None if there are none. Raises InputError unless the header has its own."""
    key = _CHECKSUM if _CHECKSUM in metadata else _CHECKSUM_BEFORE
    checksums = {
        name.removeprefix(f"{key}/"): text for name, text in metadata.items() if name.startswith(f"{key}/")
    }
    own = metadata.get(key)
    if own is None and not checksums:
        return None
    if own is None or not is_checksum_of(own, header.replace(own.encode(), _without_digits(own).encode(), 1)):
        raise InputError(f"{where} is corrupt: its header is not what was written")
    return checksums
