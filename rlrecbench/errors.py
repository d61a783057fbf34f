"""Errors that a user can act on: the command line prints them in one sentence, without a traceback."""


class BenchError(Exception):
    """The request cannot be carried out; the message says what, where, what is allowed and the fix."""

    exit_status = 2


class ConfigError(BenchError):
    """A suite, an option or a plug-in file is wrong."""


class UnknownNameError(ConfigError):
    """A name that is in no registry."""


class DataError(BenchError):
    """A data set is missing or one of its files is broken."""


class StoreError(BenchError):
    """The store or a results folder cannot be read or written, or belongs to something else."""


class ClusterLostError(BenchError):
    """All machines that computed are gone; nothing is wrong with the request."""

    exit_status = 1


class CellsFailedError(BenchError):
    """Some cells failed; the others are done and the table is written."""

    exit_status = 3


class NotHeldError(BenchError):
    """A verification did not hold."""

    exit_status = 4
