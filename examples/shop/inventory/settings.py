"""Django settings of the inventory service."""

import os
from pathlib import Path

DATA_DIR = Path(os.environ.get("SHOP_DATA_DIR", Path(__file__).resolve().parent.parent / "data"))
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "demo-only-secret")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "inventory.urls"
INSTALLED_APPS = ["inventory"]
MIDDLEWARE = []
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("INVENTORY_DATABASE", str(DATA_DIR / "inventory.sqlite3")),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": 10,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
WARROOM_ENDPOINT = os.environ.get("SHOP_WARROOM_URL", "")
