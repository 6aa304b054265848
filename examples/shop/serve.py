"""Set up and serve one of the two services: `python serve.py shop --port 8601`.

It migrates and seeds the service's database, then serves it with waitress (threads) until
SIGTERM or Ctrl-C.
"""

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

import django
from django.core.management import call_command
from waitress.server import create_server

THREADS = 8


def main():
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=["shop", "inventory"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=THREADS)
    options = parser.parse_args()

    Path(os.environ.get("SHOP_DATA_DIR", Path(__file__).parent / "data")).mkdir(
        parents=True, exist_ok=True
    )
    os.environ["DJANGO_SETTINGS_MODULE"] = f"{options.service}.settings"
    os.environ.setdefault("SHOP_INSTANCE", f"127.0.0.1:{options.port}")
    _prepare(options.service)

    application = importlib.import_module(f"{options.service}.wsgi").application
    server = create_server(
        application, host="127.0.0.1", port=options.port, threads=options.threads
    )
    signal.signal(signal.SIGTERM, _stop)
    print(f"{options.service} serves on http://127.0.0.1:{server.effective_port}", flush=True)
    try:
        server.run()
    except (KeyboardInterrupt, SystemExit):
        server.close()


def _prepare(service):
    django.setup()
    call_command("migrate", verbosity=0)
    importlib.import_module(f"{service}.seed").seed()


def _stop(_signal, _frame):
    sys.exit(0)


if __name__ == "__main__":
    main()
