"""The one signature of every processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from store.model import Batch


class Processed(NamedTuple):
    """What a processor leaves of a batch, and how many items it dropped by reason."""

    batch: Batch
    dropped: Mapping[str, int]


Processor = Callable[[Batch], Processed]
