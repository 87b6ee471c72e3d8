"""Archives the topics of outcomes and predictions: reads their partitions, and writes the tables of `everloop_archive`.

Imported only where EVERLOOP_ARCHIVE is set, because it needs pyarrow.
"""

from everloop_training.adapters.archive.archiver import Archiver

__all__ = ["Archiver"]
