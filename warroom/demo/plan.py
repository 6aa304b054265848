"""Where the demo's parts live and what each of them is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from business_metrics.calendar import SaleDay
from store.errors import WarroomError

ROOT = Path(__file__).resolve().parents[2]
SHOP_DIR = ROOT / "examples" / "shop"
STORE_TIME_ZONE = "Europe/Berlin"
SALE_AHEAD_DAYS = 4
_SHIPPED_DOUBLE = "http://127.0.0.1:8603"


@dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports in use."""

    warroom: int = 8600
    shop: int = 8601
    inventory: int = 8602
    pagerduty: int = 8603

    def flags(self) -> tuple[tuple[str, int], ...]:
        """Each port with the option that changes it."""
        return (
            ("--port", self.warroom),
            ("--shop-port", self.shop),
            ("--inventory-port", self.inventory),
            ("--pagerduty-port", self.pagerduty),
        )


def address(port: int) -> str:
    """The loopback address of a port."""
    return f"http://127.0.0.1:{port}"


def sales(today: date) -> tuple[SaleDay, SaleDay]:
    """Last year's sale and this one, which is a few days ahead: the demo plays its rehearsal."""
    first = today + timedelta(days=SALE_AHEAD_DAYS)
    before = first - timedelta(weeks=52)
    length = timedelta(days=3)
    return (
        SaleDay("black-friday", before, before + length),
        SaleDay("black-friday", first, first + length),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the demo. `ops_token` opens the shop's fault switches; `today` is the store's."""

    data_dir: Path
    ports: Ports
    ops_token: str
    today: date
    traffic_scale: float = 1.0

    @property
    def config_file(self) -> Path:
        return self.data_dir / "warroom.yaml"

    def write_config(self) -> None:
        """Write the configuration that Warroom is started with.

        Raises:
            WarroomError: The demo shop's files are not there.
        """
        shipped = SHOP_DIR / "warroom"
        if not (shipped / "slos.yml").is_file():
            raise WarroomError(
                f"the demo shop is not at {SHOP_DIR}",
                hint="run the demo from a checkout of the repository, with `make demo`",
            )
        self.data_dir.mkdir(parents=True, exist_ok=True)
        text = (shipped / "alertmanager.yml").read_text(encoding="utf-8")
        (self.data_dir / "alertmanager.yml").write_text(
            text.replace(_SHIPPED_DOUBLE, address(self.ports.pagerduty)), encoding="utf-8"
        )
        self.config_file.write_text(
            yaml.safe_dump(self._config(shipped), sort_keys=False), encoding="utf-8"
        )

    def _config(self, shipped: Path) -> dict[str, Any]:
        target = f"127.0.0.1:{self.ports.shop}"
        return {
            "external_url": address(self.ports.warroom),
            "evaluation_interval": "5s",
            "scrape_configs": [
                {
                    "job_name": "shop",
                    "scrape_interval": "2s",
                    "scrape_timeout": "1s",
                    "static_configs": [{"targets": [target]}],
                }
            ],
            "slo_files": [str(shipped / "slos.yml")],
            "alertmanager_file": "alertmanager.yml",
            "business": {
                "currency": "EUR",
                "time_zone": STORE_TIME_ZONE,
                "checkout_timeout": "60s",
                "calendar": [
                    {"name": sale.name, "first": str(sale.first), "last": str(sale.last)}
                    for sale in sales(self.today)
                ],
            },
        }

    def environment(self) -> dict[str, str]:
        """What every child gets."""
        return {
            "PYTHONPATH": f"{ROOT}:{SHOP_DIR}",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "SHOP_DATA_DIR": str(self.data_dir / "shop"),
            "SHOP_WARROOM_URL": address(self.ports.warroom),
            "SHOP_INVENTORY_URL": address(self.ports.inventory),
            "SHOP_OPS_TOKEN": self.ops_token,
            "SHOP_SECRET_KEY": self.ops_token,
            # Two milliseconds: a database one switch away.
            "SHOP_DATABASE_ROUND_TRIP_MS": "2",
        }

    def warroom_command(self) -> list[str]:
        """Warroom itself."""
        return ["-m", "warroom.cli", "serve", "--config", str(self.config_file.resolve()),
                "--data-dir", str(self.data_dir / "warroom"),
                "--listen", f"127.0.0.1:{self.ports.warroom}",
                "--otlp-http", "off", "--otlp-grpc", "off"]  # fmt: skip

    def pagerduty_command(self) -> list[str]:
        """The PagerDuty double."""
        return ["-m", "warroom.demo.pagerduty_double", "--port", str(self.ports.pagerduty)]

    def service_command(self, service: str) -> list[str]:
        """The shop or its inventory."""
        port = self.ports.shop if service == "shop" else self.ports.inventory
        return [str(SHOP_DIR / "serve.py"), service, "--port", str(port)]

    def traffic_command(self, multiple: float = 1.0) -> list[str]:
        """So many times the usual visitors."""
        return [str(SHOP_DIR / "traffic.py"), "--shop", address(self.ports.shop),
                "--scale", str(self.traffic_scale * multiple)]  # fmt: skip
