"""Bounds of the DuckDB store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What the store takes at most. Sizes are bytes, times milliseconds.

    Attributes:
        max_series: Series that may exist at once.
        max_labels_per_series: Label pairs of one series, its name included.
        max_label_name_bytes: UTF-8 length of a label's name.
        max_label_value_bytes: UTF-8 length of a label's value.
        max_metadata: Metric families whose type and help are kept.
        max_queue_batches: Batches that may wait for the writer.
        max_queue_bytes: Bytes that may wait for the writer.
        max_round_rows: Rows that one commit takes.
        memory_bytes: What DuckDB may use for its buffers; larger queries spill to disk.
        threads: DuckDB's worker threads.
        readers: Queries that may run at once; further ones wait.
        checkpoint_wal_bytes: DuckDB's own log of this size is folded into the file.
        log_segment_bytes: Size of one file of the append log.
        flush_rows: So many rows in the append log go into the database.
        flush_bytes: So many bytes in the append log go into the database.
        flush_interval_s: After so many seconds they go in any case.
        head_window_ms: How much of the newest time is also kept in memory; 0 turns it off.
        head_max_samples: Samples kept in memory at most; the window shrinks to hold it.
    """

    max_series: int = 2_000_000
    max_labels_per_series: int = 64
    max_label_name_bytes: int = 1024
    max_label_value_bytes: int = 4096
    max_metadata: int = 50_000
    max_queue_batches: int = 10_000
    max_queue_bytes: int = 256 * 1024 * 1024
    max_round_rows: int = 500_000
    memory_bytes: int = 512 * 1024 * 1024
    threads: int = 2
    readers: int = 8
    checkpoint_wal_bytes: int = 64 * 1024 * 1024
    log_segment_bytes: int = 8 * 1024 * 1024
    flush_rows: int = 500_000
    flush_bytes: int = 96 * 1024 * 1024
    flush_interval_s: float = 60.0
    head_window_ms: int = 10 * 60 * 1000
    head_max_samples: int = 8_000_000
