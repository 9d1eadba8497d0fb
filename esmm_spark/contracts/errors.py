"""Every exception that esmm_spark raises on purpose.

    EsmmSparkError
    |-- UserError                  a user's mistake: one line on stderr, exit code 2
    |   |-- ConfigError            an unknown key, a value out of range
    |   |-- InputError             missing, empty, truncated or corrupt input
    |   |   `-- MissingLogError    lines of an event log that should be there are not
    |   |-- TooManyRejectsError    more bad lines than max_reject_fraction allows
    |   |-- SpecMismatchError      a dataset or model of another feature spec
    |   |-- IncompleteError        a half-written dataset, model or partition
    |   |-- TargetBusyError        another run writes the target
    |   |-- LeaseLostError         another run took the target over while this one was suspended
    |   |-- UnwritableError        a full disk, a missing permission, a disk that fails
    |   |-- UnsafeFileError        a pickle where none may be
    |   `-- TooFewRowGroupsError   fewer row groups than ranks
    |-- CountMismatchError         what went in is not what came out: exit code 1
    |-- RequirementsNotMetError    a model that isn't good enough: exit code 3
    |-- NonFiniteLossError         NaN or infinite loss: exit code 1
    `-- RankFailedError            another rank failed: exit code 1

A message says what failed, the value found, the limit, where, and what to do, for example
"12 row groups < 16 ranks in data/examples/split=train: preprocess with samples.row_group_mb <= 4, or train on
<= 12 ranks".
"""

from esmm_spark.contracts.locations import redacted


class EsmmSparkError(Exception):
    """The root of all errors that esmm_spark raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        """Returns the message, without credentials in the URIs that it names."""
        return redacted(super().__str__())


class UserError(EsmmSparkError):
    """A mistake that the user can mend: a command prints the message alone and ends with exit code 2."""

    exit_code = 2


class ConfigError(UserError):
    """An unknown config key or a value out of range."""


class InputError(UserError):
    """Input that is missing, empty, truncated or corrupt."""


class MissingLogError(InputError):
    """Lines of an event log that should be there are not: a folder is missing, or holds less than it did."""


class TooManyRejectsError(UserError):
    """The fraction of rejected lines is above `max_reject_fraction`."""


class SpecMismatchError(UserError):
    """A dataset or model was made with another feature spec."""


class IncompleteError(UserError):
    """A dataset, model or partition that was not written to its end."""


class TargetBusyError(UserError):
    """Another run writes the target."""


class LeaseLostError(UserError):
    """Another run took over the target while this one was suspended: it must not publish what it wrote."""


class UnwritableError(UserError):
    """The file system refuses what is to be written: it is full, read-only, or there is no permission."""


class UnsafeFileError(UserError):
    """A file that carries a pickle: unpickling runs whatever code its author put there."""


class TooFewRowGroupsError(UserError):
    """Fewer row groups than ranks: some ranks would have nothing to read."""


class CountMismatchError(EsmmSparkError):
    """What went into a stage is not what came out of it."""


class RequirementsNotMetError(EsmmSparkError):
    """The evaluation is complete, and a metric isn't what `evaluate.require` says."""

    exit_code = 3


class NonFiniteLossError(EsmmSparkError):
    """The training loss became NaN or infinite."""


class RankFailedError(EsmmSparkError):
    """Another rank of the same job failed, so this one stops too."""
