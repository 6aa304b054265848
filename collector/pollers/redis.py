"""Redis and Valkey, by the names of redis_exporter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from collector.polling.contract import Reading, name_part
from collector.polling.redis_client import Account, RedisClient
from collector.polling.redis_names import COUNTERS, GAUGES

MAX_COMMANDS = 500
MAX_SLOWLOG = 1
MAX_DATABASES = 64
_GRANT = "Grant the rights of docs/sources/redis.md to the account."
_WORDS = {"ok": 1.0, "up": 1.0, "err": 0.0, "fail": 0.0, "down": 0.0}
_REPLICA = re.compile(r"slave\d+")
_DATABASE = re.compile(r"db\d+")
_QUANTILE = re.compile(r"p(\d+(?:\.\d+)?)")
_TOLD = (
    "role",
    "redis_version",
    "redis_build_id",
    "redis_mode",
    "os",
    "maxmemory_policy",
    "process_id",
    "run_id",
    "tcp_port",
)
_LIMITS = ("maxclients", "maxmemory", "io-threads")


class RedisPoller:
    """Keeps one connection, so that it still reads a server that takes no new one."""

    def __init__(self, account: Account, timeout_s: float) -> None:
        self._client = RedisClient(account, timeout_s)

    async def poll(self, now_ms: int) -> Reading:
        del now_ms
        reading = Reading()
        async with self._client.session():
            info = fields_of(str(await self._client.ask("INFO", "ALL")))
            read_info(info, reading)
            await self._limits(info, reading)
            await self._slowlog(reading)
            await self._latency(reading)
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _allowed(self, reading: Reading, *command: str) -> Any:
        return await self._client.allowed(reading, _GRANT, *command)

    async def _limits(self, info: Mapping[str, str], reading: Reading) -> None:
        for name in _LIMITS:
            found = await self._setting(reading, name)
            if found is None:
                # A managed service has no CONFIG; newer servers tell these in INFO, too.
                found = _number(info.get(name, ""))
            if found is not None:
                reading.gauge(f"redis_config_{name_part(name)}", found)
        databases = await self._setting(reading, "databases") or 0
        for number in range(min(int(databases), MAX_DATABASES)):
            # INFO tells nothing of an empty one.
            if f"db{number}" not in info:
                _database(f"db{number}", "", reading)

    async def _setting(self, reading: Reading, name: str) -> float | None:
        answer = await self._allowed(reading, "CONFIG", "GET", name)
        return _number(str(answer[1])) if isinstance(answer, list) and len(answer) > 1 else None

    async def _slowlog(self, reading: Reading) -> None:
        length = await self._allowed(reading, "SLOWLOG", "LEN")
        if not isinstance(length, int):
            return
        reading.gauge("redis_slowlog_length", length)
        entries = await self._allowed(reading, "SLOWLOG", "GET", str(MAX_SLOWLOG))
        newest = entries[0] if isinstance(entries, list) and entries else (0, 0, 0)
        # Never the command itself: its arguments may be anything.
        reading.gauge("redis_slowlog_last_id", float(newest[0]))
        slow_s = float(newest[2]) / 1_000_000
        reading.gauge("redis_last_slow_execution_duration_seconds", slow_s)

    async def _latency(self, reading: Reading) -> None:
        events = await self._allowed(reading, "LATENCY", "LATEST")
        for event in events if isinstance(events, list) else []:
            labels = {"event_name": str(event[0])}
            reading.gauge("redis_latency_spike_last", float(event[1]), labels)
            reading.gauge("redis_latency_spike_duration_seconds", float(event[2]) / 1_000, labels)


def fields_of(text: str) -> dict[str, str]:
    """The lines of INFO, by name."""
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value.strip() for name, colon, value in pairs if colon}


def read_info(info: Mapping[str, str], reading: Reading) -> None:
    """Everything of INFO that redis_exporter names."""
    for key, value in info.items():
        if key in GAUGES or key in COUNTERS:
            _plain(key, value, reading)
        elif _DATABASE.fullmatch(key):
            _database(key, value, reading)
        elif _REPLICA.fullmatch(key):
            _replica(value, reading)
    _commands(info, reading)
    _identity(info, reading)


def _plain(key: str, text: str, reading: Reading) -> None:
    value = _number(text)
    if value is None:
        return
    if key in GAUGES:
        reading.gauge(f"redis_{GAUGES[key]}", value)
    else:
        reading.counter(f"redis_{COUNTERS[key]}", value)


def _commands(info: Mapping[str, str], reading: Reading) -> None:
    told = 0
    for key, value in info.items():
        kind, _, name = key.partition("_")
        if kind not in ("cmdstat", "errorstat", "latency") or told >= MAX_COMMANDS:
            continue
        told += 1
        if kind == "cmdstat":
            _command(name, value, reading)
        elif kind == "errorstat":
            count = _number(_pairs(value).get("count", ""))
            reading.counter("redis_errors_total", count or 0.0, {"err": name})
        elif name.startswith("percentiles_usec_"):
            _percentiles(name.removeprefix("percentiles_usec_"), value, reading)


def _command(name: str, value: str, reading: Reading) -> None:
    found, labels = _pairs(value), {"cmd": name}
    for key, metric, scale in (
        ("calls", "redis_commands_total", 1),
        ("usec", "redis_commands_duration_seconds_total", 1_000_000),
        ("rejected_calls", "redis_commands_rejected_calls_total", 1),
        ("failed_calls", "redis_commands_failed_calls_total", 1),
    ):
        number = _number(found.get(key, ""))
        if number is not None:
            reading.counter(metric, number / scale, labels)


def _percentiles(command: str, value: str, reading: Reading) -> None:
    for key, text in _pairs(value).items():
        match, number = _QUANTILE.fullmatch(key), _number(text)
        if match and number is not None:
            labels = {"cmd": command, "quantile": f"{float(match[1]):g}"}
            reading.gauge("redis_latency_percentiles_usec", number, labels)


def _database(name: str, value: str, reading: Reading) -> None:
    found, labels = _pairs(value), {"db": name}
    reading.gauge("redis_db_keys", _number(found.get("keys", "")) or 0.0, labels)
    reading.gauge("redis_db_keys_expiring", _number(found.get("expires", "")) or 0.0, labels)
    ttl_ms = _number(found.get("avg_ttl", ""))
    if ttl_ms is not None:
        reading.gauge("redis_db_avg_ttl_seconds", ttl_ms / 1_000, labels)


def _replica(value: str, reading: Reading) -> None:
    found = _pairs(value)
    labels = {
        "slave_ip": found.get("ip", ""),
        "slave_port": found.get("port", ""),
        "slave_state": found.get("state", ""),
    }
    offset, lag = _number(found.get("offset", "")), _number(found.get("lag", ""))
    if offset is not None:
        reading.gauge("redis_connected_slave_offset_bytes", offset, labels)
    if lag is not None:
        reading.gauge("redis_connected_slave_lag_seconds", lag, labels)


def _identity(info: Mapping[str, str], reading: Reading) -> None:
    fork_us = _number(info.get("latest_fork_usec", ""))
    if fork_us is not None:
        reading.gauge("redis_latest_fork_seconds", fork_us / 1_000_000)
    now_us, uptime_s = (
        _number(info.get(name, "")) for name in ("server_time_usec", "uptime_in_seconds")
    )
    if now_us is not None and uptime_s is not None:
        started_s = now_us // 1_000_000 - uptime_s
        reading.gauge("redis_start_time_seconds", started_s)
    labels = {name: info.get(name, "") for name in _TOLD}
    reading.gauge("redis_instance_info", 1, labels)
    if info.get("role") != "slave":
        return
    master = {name: info.get(name, "") for name in ("master_host", "master_port")}
    reading.gauge("redis_slave_info", 1, {**master, "read_only": info.get("slave_read_only", "")})
    for key, metric in (
        ("master_link_status", "redis_master_link_up"),
        ("master_last_io_seconds_ago", "redis_master_last_io_seconds_ago"),
        ("master_sync_in_progress", "redis_master_sync_in_progress"),
        ("slave_repl_offset", "redis_slave_repl_offset"),
    ):
        number = _number(info.get(key, ""))
        if number is not None:
            reading.gauge(metric, number, master)


def _pairs(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def _number(text: str) -> float | None:
    word = _WORDS.get(text)
    if word is not None:
        return word
    try:
        return float(text)
    except ValueError:
        return None
