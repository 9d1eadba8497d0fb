"""What was fitted and counted for another dataset, and is used as it is: `samples.frozen_from`."""

from typing import NamedTuple

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.disjoint_paths import FROZEN_FROM
from esmm_spark.contracts.errors import SpecMismatchError
from esmm_spark.contracts.fields.fitted import FittedNumber, require_same_fitted
from esmm_spark.contracts.manifest import Manifest, require_same_spec
from esmm_spark.contracts.schemas.layout import MARKER, VOCABULARY
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_written_manifest


class Frozen(NamedTuple):
    """What is taken from another dataset, and from which.

    Attributes:
        name: the config's key and path, for messages.
        fitted: of all numeric fields.
        vocabulary: URI of the folder of frequent values; None where the spec needs none.
        vocabulary_digest: of these values.
    """

    name: str
    fitted: dict[str, FittedNumber]
    vocabulary: str | None
    vocabulary_digest: str | None


def frozen_of(config: Config) -> Frozen | None:
    """Returns what the config takes from another dataset; None: it takes nothing.

    Raises:
        InputError, IncompleteError: there is no dataset.
        SpecMismatchError: it was made with another spec.
    """
    path = config.samples.frozen_from
    if path is None:
        return None
    name = f"{FROZEN_FROM} {path}"
    manifest = read_written_manifest(path)
    require_same_spec(config.features, "the config", manifest.feature_spec, name)
    vocabulary = storage.join(path, VOCABULARY) if config.features.needs_vocabulary else None
    return Frozen(name, manifest.fitted, vocabulary, manifest.vocabulary_digest)


def keep_vocabulary(frozen: Frozen, dataset: str) -> None:
    """Copies the vocabulary into a dataset that has none: who trains on it takes it from there."""
    own = storage.join(dataset, VOCABULARY)
    if frozen.vocabulary is not None and not storage.exists(storage.join(own, MARKER)):
        storage.copy_folder(frozen.vocabulary, own)


def require_same_frozen(frozen: Frozen, dataset: str, manifest: Manifest) -> None:
    """Raises SpecMismatchError if the dataset was made with other boundaries, or another vocabulary."""
    require_same_fitted(frozen.fitted, frozen.name, manifest.fitted, f"the dataset {dataset}")
    if frozen.vocabulary_digest != manifest.vocabulary_digest:
        raise SpecMismatchError(
            f"{frozen.name} has vocabulary {frozen.vocabulary_digest}, the dataset {dataset} has "
            f"{manifest.vocabulary_digest}: set it back, or set paths.dataset to another folder"
        )
