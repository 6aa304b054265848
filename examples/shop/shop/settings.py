"""Django settings of the demo shop. Everything that varies comes from the environment."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("SHOP_DATA_DIR", BASE_DIR / "data"))

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "demo-only-secret")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = ["shop", "collector.instrument"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", str(DATA_DIR / "shop.sqlite3")),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": 10,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
}
CACHES = {
    "default": {
        "BACKEND": "shop.cache.CountingLocMemCache",
        "LOCATION": "shop",
        "TIMEOUT": 300,
        "OPTIONS": {"MAX_ENTRIES": 20_000},
    }
}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}

# A query to a database across the network takes about this long; SQLite is in-process and would
# make every loop look harmless.
DATABASE_ROUND_TRIP_MS = float(os.environ.get("SHOP_DATABASE_ROUND_TRIP_MS", "0"))
INVENTORY_URL = os.environ.get("SHOP_INVENTORY_URL", "http://127.0.0.1:8602")
OPS_TOKEN = os.environ.get("SHOP_OPS_TOKEN", "")
CURRENCY = "EUR"

WARROOM_ENDPOINT = os.environ.get("SHOP_WARROOM_URL", "")
WARROOM_RUM_URL = "/rum" if WARROOM_ENDPOINT else ""
