"""Every poller, in one literal table: from its type to how its settings are read and it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from collector.pollers.aws.poller import AwsPoller, read_aws
from collector.pollers.celery import CeleryPoller, read_celery
from collector.pollers.cloudflare import CloudflarePoller, read_cloudflare
from collector.pollers.datadog import DatadogPoller, read_datadog
from collector.pollers.elasticsearch import ElasticsearchPoller, read_elasticsearch
from collector.pollers.host import HostPoller, read_host
from collector.pollers.mysql.poller import MysqlPoller, read_mysql
from collector.pollers.newrelic import NewrelicPoller, read_newrelic
from collector.pollers.pgbouncer import PgbouncerPoller, read_pgbouncer
from collector.pollers.postgresql import PostgresqlPoller, read_postgresql
from collector.pollers.prometheus import PrometheusPoller, read_prometheus
from collector.pollers.proxysql import ProxysqlPoller, read_proxysql
from collector.pollers.redis import RedisPoller
from collector.polling.contract import Poller
from collector.polling.fields import Fields
from collector.polling.redis_client import read_account


@dataclass(frozen=True, slots=True)
class PollerType:
    """One row of the table.

    Attributes:
        read: Reads the fields of its own and checks them.
        make: Makes a poller from what was read and a timeout in seconds.
        interval_s: Asked so often by default.
        driver: The module that must be installed, or the empty string.
        extra: The extra of Warroom that brings the driver.
        up_metric: What the usual exporter calls `up`, or the empty string.
    """

    read: Callable[[Fields], Any]
    make: Callable[[Any, float], Poller]
    interval_s: float = 5.0
    driver: str = ""
    extra: str = ""
    up_metric: str = ""


POLLERS: Mapping[str, PollerType] = {
    "aws": PollerType(read_aws, AwsPoller, interval_s=60.0, driver="boto3", extra="aws"),
    "celery": PollerType(read_celery, CeleryPoller, driver="redis", extra="redis"),
    "cloudflare": PollerType(read_cloudflare, CloudflarePoller, interval_s=60.0),
    "datadog": PollerType(read_datadog, DatadogPoller, interval_s=60.0),
    "elasticsearch": PollerType(
        read_elasticsearch, ElasticsearchPoller, interval_s=10.0, up_metric="elasticsearch_up"
    ),
    "host": PollerType(read_host, HostPoller),
    "mysql": PollerType(
        read_mysql, MysqlPoller, driver="pymysql", extra="mysql", up_metric="mysql_up"
    ),
    "newrelic": PollerType(read_newrelic, NewrelicPoller, interval_s=60.0),
    "pgbouncer": PollerType(
        read_pgbouncer,
        PgbouncerPoller,
        driver="psycopg",
        extra="postgres",
        up_metric="pgbouncer_up",
    ),
    "postgresql": PollerType(
        read_postgresql, PostgresqlPoller, driver="psycopg", extra="postgres", up_metric="pg_up"
    ),
    "prometheus": PollerType(read_prometheus, PrometheusPoller, interval_s=15.0),
    "proxysql": PollerType(
        read_proxysql, ProxysqlPoller, driver="pymysql", extra="mysql", up_metric="proxysql_up"
    ),
    "redis": PollerType(
        read_account, RedisPoller, driver="redis", extra="redis", up_metric="redis_up"
    ),
}
