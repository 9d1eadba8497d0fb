"""An S3 server on the loopback interface, moto's, which keeps its objects in memory."""

import os
import subprocess
from pathlib import Path

import pytest
from pyarrow import fs

from esmm_spark.files import storage
from tests.cluster.standalone import free_port, kill_session, wait_until
from tests.cluster.venvs import venv_of

_LOCK = Path(__file__).parent / "moto.lock"
_BUCKET = "esmm"


class ObjectStore:
    """A server with one bucket.

    Attributes:
        uri: of the bucket.
        variables: of the environment of whoever is to reach it.
    """

    uri = f"s3a://{_BUCKET}"

    def __init__(self, folder: Path) -> None:
        """Starts it; its log lies in `folder`."""
        port = free_port()
        self.variables = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        command = [str(venv_of("moto", _LOCK) / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        with (folder / "moto.log").open("wb") as log:
            self._server = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **self.variables}
            )

    def make_bucket(self) -> None:
        """Makes the bucket once the server answers; this process must have `variables`."""
        filesystem = fs.S3FileSystem(
            endpoint_override=self.variables["AWS_ENDPOINT_URL"], allow_bucket_creation=True
        )

        def made() -> bool:
            assert self._server.poll() is None
            try:
                filesystem.create_dir(_BUCKET)
            except OSError:
                return False
            return True

        wait_until(made, "the server answers")

    def put(self, local: Path, name: str) -> str:
        """Copies a folder, or a file, into the bucket by pyarrow and returns its URI."""
        uri = f"{self.uri}/{name}"
        if local.is_dir():
            storage.copy_folder(str(local), uri)
        else:
            storage.write_bytes(uri, local.read_bytes())
        return uri

    def get(self, name: str, local: Path) -> Path:
        """Copies a folder of the bucket to `local`, which is returned."""
        storage.copy_folder(f"{self.uri}/{name}", str(local))
        return local

    def close(self) -> None:
        """Ends the server."""
        kill_session(self._server.pid)
        self._server.wait(30)


def reached(store: ObjectStore, patch: pytest.MonkeyPatch) -> None:
    """Lets this process, and those that it starts, reach the store."""
    for name, value in store.variables.items():
        patch.setenv(name, value)
