"""The WSGI application of the inventory service. Instruments the process first."""

import os
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inventory.settings")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from collector.instrument.django import InstrumentOptions, instrument_django

if settings.WARROOM_ENDPOINT:
    instrument_django(
        "inventory",
        endpoint=settings.WARROOM_ENDPOINT,
        app_roots=[Path(__file__).resolve().parent],
        options=InstrumentOptions(
            excluded_urls="healthz", instance=os.environ.get("SHOP_INSTANCE", "")
        ),
    )
application = get_wsgi_application()
