"""What a run leaves on disk, read back: records, per-user values, lists, and what tables know of the data."""

from rlrecbench.results.records import NO_BACKBONE, SCHEMA, Axes, Block, Json, Record, Results, load, unlike

__all__ = ["NO_BACKBONE", "SCHEMA", "Axes", "Block", "Json", "Record", "Results", "load", "unlike"]
