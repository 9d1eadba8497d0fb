"""Our safetensors files against the safetensors package, both ways."""

import json
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from safetensors.torch import load_file, save_file

from esmm_spark.contracts.errors import InputError
from esmm_spark.files.tensor_file import map_tensors, read_tensors, tensor_bytes, write_tensors
from tests.flipped_bits import flips_of

TENSORS = {
    "rows": torch.arange(35, dtype=torch.float32).reshape(7, 5),
    "accumulator": torch.tensor([1.5, -2.0, 1e-30], dtype=torch.float64),
    "step": torch.tensor(2**40),
    "small": torch.tensor([[1, -2], [3, 4]], dtype=torch.int32),
    "bytes": torch.tensor([0, 255], dtype=torch.uint8),
    "none": torch.zeros(0, 4),
}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        assert torch.equal(found[name], tensor), name


def test_the_safetensors_package_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "new" / "all.safetensors"
    write_tensors(str(path), TENSORS)
    assert_same(load_file(path), TENSORS)
    assert path.read_bytes() == tensor_bytes(TENSORS)
    assert [file.name for file in path.parent.iterdir()] == ["all.safetensors"]


def test_we_read_what_the_safetensors_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    assert_same(read_tensors(str(path)), TENSORS)
    assert_same({name: torch.from_numpy(a) for name, a in map_tensors(str(path)).items()}, TENSORS)


def test_a_view_of_padded_rows_is_written_without_its_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 3 rows a block, so that several blocks are written.
    monkeypatch.setattr("esmm_spark.files.tensor_file._WRITE_BYTES", 3 * 18 * 4)
    padded = torch.randn(10, 20)
    path = tmp_path / "rows.safetensors"
    write_tensors(str(path), {"rows": padded[:, :18]})
    assert torch.equal(load_file(path)["rows"], padded[:, :18])


def test_a_mapped_tensor_is_the_files_own_pages_and_never_written_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.safetensors"
    write_tensors(str(path), {"rows": TENSORS["rows"]})
    before = path.read_bytes()
    mapped = map_tensors(str(path))["rows"]
    assert isinstance(mapped, np.memmap)
    mapped[0, 0] = 99.0
    assert path.read_bytes() == before
    assert map_tensors(str(path))["rows"][0, 0] == 0.0


@pytest.mark.parametrize("read", [map_tensors, read_tensors])
@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1])
def test_a_file_cut_short_is_named(tmp_path: Path, kept: int, read: object) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(tensor_bytes(TENSORS)[:kept])
    with pytest.raises(InputError, match=r"cut\.safetensors is corrupt or cut short"):
        read(str(path))  # type: ignore[operator]


@pytest.mark.parametrize("read", [map_tensors, read_tensors])
@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1]",
        b'{"a":1}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}',  # 4 bytes in 8
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[4,0]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}',
        b'{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}',  # beyond the file
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',  # bytes left over
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(tmp_path: Path, header: bytes, read: object) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(InputError, match=r"odd\.safetensors is corrupt or cut short"):
        read(str(path))  # type: ignore[operator]


def test_a_header_length_of_petabytes_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    for read in (map_tensors, read_tensors):
        with pytest.raises(InputError, match="corrupt or cut short"):
            read(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (map_tensors, read_tensors):
        with pytest.raises(InputError, match=r"no file at .*gone\.safetensors"):
            read(str(tmp_path / "gone.safetensors"))


def test_the_same_values_are_the_same_bytes() -> None:
    assert tensor_bytes({"a": torch.ones(2, 3)}) == tensor_bytes({"a": torch.ones(3, 2).T})


@pytest.mark.parametrize("read", [map_tensors, read_tensors])
def test_a_flipped_bit_is_told_in_one_line_or_changes_no_tensor(tmp_path: Path, read: object) -> None:
    path = tmp_path / "all.safetensors"
    write_tensors(str(path), TENSORS)
    body = len(path.read_bytes()) - sum(t.numel() * t.element_size() for t in TENSORS.values())
    for place in flips_of(path, 2000):
        if place >= body:
            with pytest.raises(InputError, match=r"^\S+all\.safetensors is corrupt"):
                read(str(path))  # type: ignore[operator]
            continue
        # Of a flip in the name of the metadata, say, nothing need be told.
        with suppress(InputError):
            found = read(str(path))  # type: ignore[operator]
            assert_same({name: torch.as_tensor(np.asarray(value)) for name, value in found.items()}, TENSORS)


def test_only_the_tensors_that_are_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    write_tensors(str(path), TENSORS)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert list(map_tensors(str(path), ["rows"])) == ["rows"]
    with pytest.raises(InputError, match="tensor bytes is not what was written"):
        map_tensors(str(path), ["bytes"])


def bytes_of_before(tensors: dict[str, torch.Tensor]) -> bytes:
    """Returns a file as it was written when its checksums were XXH64."""
    content = tensor_bytes(tensors)
    end = 8 + struct.unpack_from("<Q", content)[0]
    entries = json.loads(content[8:end])
    metadata = {"xxh64": "0" * 16}
    for name, tensor in tensors.items():
        metadata[f"xxh64/{name}"] = xxhash.xxh64_hexdigest(tensor.numpy().tobytes())
    text = json.dumps({**entries, "__metadata__": metadata}).encode()
    text = text.replace(b"0" * 16, xxhash.xxh64_hexdigest(text).encode(), 1)
    return struct.pack("<Q", len(text)) + text + content[end:]


@pytest.mark.parametrize("read", [map_tensors, read_tensors])
def test_a_file_of_before_is_held_against_its_xxh64(tmp_path: Path, read: object) -> None:
    path = tmp_path / "all.safetensors"
    path.write_bytes(bytes_of_before(TENSORS))
    found = read(str(path))  # type: ignore[operator]
    assert_same({name: torch.as_tensor(np.asarray(value)) for name, value in found.items()}, TENSORS)
    size = len(path.read_bytes())
    body = size - sum(t.numel() * t.element_size() for t in TENSORS.values())
    own = path.read_bytes().index(b'"xxh64"') + len(b'"xxh64": "')
    for place in (own, path.read_bytes().index(b'"xxh64/rows"') + 20, body, size - 1):
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"^\S+all\.safetensors is corrupt"):
            read(str(path))  # type: ignore[operator]
        path.write_bytes(bytes_of_before(TENSORS))
