"""A real Celery worker, and the tasks it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from celery import Celery  # type: ignore[import-untyped]  # it ships no types

from tests.collector.pollers.servers import Server

TASKS = """
import os
from celery import Celery

app = Celery("jobs", broker=os.environ["BROKER"])
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = False

@app.task(name="mail.send")
def send(address):
    pass

@app.task(name="stock.book")
def book():
    raise LookupError("no such product as s3cret-argument")

@app.task(name="feed.load", bind=True, max_retries=1)
def load(self):
    raise self.retry(countdown=0, exc=OSError("gone"))
"""


class CeleryWorker(Server):
    """`celery worker -E` on two queues; it says goodbye when it is stopped."""

    def __init__(self, directory: Path, broker: str) -> None:
        super().__init__(directory, 0)
        (directory / "jobs.py").write_text(TASKS)
        self.broker = broker
        options = ["--pool=solo", "-E", "-Q", "celery,mail", "-n", "w1@box"]
        quiet = ["--without-gossip", "--without-mingle", "--loglevel=INFO"]
        with (directory / "log").open("ab") as log:
            # What tests of the Django shop set would make this worker one of the shop's.
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("DJANGO_")}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "jobs", "worker", *options, *quiet],
                cwd=directory,
                env={**inherited, "BROKER": broker, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.wait_for(lambda: b" ready." in (directory / "log").read_bytes())

    def producer(self, **settings: Any) -> Celery:
        """A client of the same broker, with settings of Celery."""
        app = Celery("producer", broker=self.broker, set_as_current=False)
        app.conf.update(task_ignore_result=True, **settings)
        return app
