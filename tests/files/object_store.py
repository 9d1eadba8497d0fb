"""An object store in memory, as pyarrow's S3 file system shows one: no folders, so none can be moved."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyarrow import fs


class Killed(BaseException):
    """Stands for the end of the process: no operation happens any more."""


class ObjectStore(fs.FileSystemHandler):  # type: ignore[misc]
    """Files by name; a folder is there while a file is below it, or an object whose name ends in a slash.

    Attributes:
        objects: name -> content.
        steps: the changes so far, like "copy a/b".
        steps_until_killed: each change counts it down, at 0 raises Killed instead.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.steps: list[str] = []
        self.steps_until_killed = -1

    def _step(self, text: str) -> None:
        if self.steps_until_killed == 0:
            raise Killed
        self.steps_until_killed -= 1
        self.steps.append(text)

    def _info(self, path: str) -> fs.FileInfo:
        path = path.rstrip("/")
        if path in self.objects:
            return fs.FileInfo(path, fs.FileType.File, size=len(self.objects[path]))
        is_folder = any(name.startswith(f"{path}/") for name in self.objects)
        return fs.FileInfo(path, fs.FileType.Directory if is_folder else fs.FileType.NotFound)

    def get_type_name(self) -> str:
        return "objects"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        base = selector.base_dir.rstrip("/")
        below = [name.removeprefix(f"{base}/") for name in self.objects if name.startswith(f"{base}/")]
        if not below and not selector.allow_not_found:
            raise FileNotFoundError(base)
        found = set()
        for name in below:
            parts = name.rstrip("/").split("/")
            depth = len(parts) if selector.recursive else 1
            found |= {"/".join(parts[:end]) for end in range(1, depth + 1) if parts[0]}
        return [self._info(f"{base}/{name}") for name in sorted(found)]

    def create_dir(self, path: str, recursive: bool) -> None:
        self._step(f"create {path}")
        self.objects[f"{path}/"] = b""

    def delete_dir(self, path: str) -> None:
        names = [name for name in self.objects if name.startswith(f"{path}/")]
        if not names:
            raise FileNotFoundError(path)
        for name in names:
            self._step(f"delete {name}")
            del self.objects[name]

    def delete_file(self, path: str) -> None:
        self._step(f"delete {path}")
        del self.objects[path]

    def copy_file(self, src: str, dest: str) -> None:
        self._step(f"copy {src}")
        self.objects[dest] = self.objects[src]

    def move(self, src: str, dest: str) -> None:
        raise NotImplementedError("moving in an object store")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return pa.BufferReader(self.objects[path])

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: Mapping[str, Any]) -> pa.NativeFile:
        return pa.PythonFile(_Writer(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: Mapping[str, Any]) -> pa.NativeFile:
        raise NotImplementedError

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError


class _Writer:
    """A file whose object is there once it is closed."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store, self._path, self._content = store, path, bytearray()
        self.closed = False

    def write(self, content: bytes) -> int:
        self._content += content
        return len(content)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._store._step(f"write {self._path}")
            self._store.objects[self._path] = bytes(self._content)
