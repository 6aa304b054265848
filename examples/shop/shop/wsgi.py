"""The WSGI application. Instruments the process first."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.wsgi import get_wsgi_application

from shop.telemetry import telemetry

telemetry.start(os.environ.get("SHOP_INSTANCE", ""))
application = get_wsgi_application()
