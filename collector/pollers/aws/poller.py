"""The poller of one AWS region: its parts fail, and are left alone, each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from collector.pollers.aws.cloudwatch import Figure, ask, read_figures
from collector.pollers.aws.groups import Activities, read_groups
from collector.polling.aws_client import Account, AwsClient, read_account
from collector.polling.contract import PollFailed, Reading
from collector.polling.fields import Fields
from collector.polling.http import base_url

MAX_GROUPS = 50  # AWS takes no more names in one question
_SEE = "See docs/sources/aws.md."

Part = Callable[[Reading], None]


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """What is asked of one region.

    Attributes:
        account: Where and as whom.
        autoscaling: Auto Scaling groups are read.
        groups: Their names; every group where there is none.
        figures: What CloudWatch is asked.
        autoscaling_url: Another address of that service; or the empty string.
        cloudwatch_url: Likewise.
    """

    account: Account
    autoscaling: bool = True
    groups: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    autoscaling_url: str = ""
    cloudwatch_url: str = ""


def read_aws(fields: Fields) -> AwsSettings:
    """The fields of an `aws` entry."""
    found = AwsSettings(
        account=read_account(fields),
        autoscaling=fields.flag("autoscaling", default=True),
        groups=fields.texts("groups"),
        figures=read_figures(fields),
        autoscaling_url=_url(fields, "autoscaling_url"),
        cloudwatch_url=_url(fields, "cloudwatch_url"),
    )
    if len(found.groups) > MAX_GROUPS:
        raise fields.error("groups", f"at most {MAX_GROUPS} names", hint="leave it out for all")
    if not found.autoscaling and not found.figures:
        raise fields.error(
            "metrics", "nothing is asked", hint="write metrics, or autoscaling: true"
        )
    return found


def _url(fields: Fields, key: str) -> str:
    return base_url(fields, key) if fields.has(key) else fields.text(key, "")


class AwsPoller:
    """Asks in a thread of its own, for AWS's client blocks.

    A part that is throttled is left alone for as long as AWS says, the others are asked meanwhile.
    """

    def __init__(self, settings: AwsSettings, timeout_s: float) -> None:
        self._settings = settings
        account = settings.account
        self._scaling = AwsClient(account, "autoscaling", settings.autoscaling_url, timeout_s)
        self._figures = AwsClient(account, "cloudwatch", settings.cloudwatch_url, timeout_s)
        self._activities = Activities()
        self._resting: dict[str, tuple[int, PollFailed]] = {}
        self._one_at_a_time: anyio.CapacityLimiter | None = None

    async def poll(self, now_ms: int) -> Reading:
        if self._one_at_a_time is None:
            # What was given up may still wait on its socket, and holds up this poller alone.
            self._one_at_a_time = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(
            partial(self._read, now_ms), limiter=self._one_at_a_time, abandon_on_cancel=True
        )

    async def aclose(self) -> None:
        self._scaling.close()
        self._figures.close()

    def _read(self, now_ms: int) -> Reading:
        reading = Reading()
        failed: list[PollFailed] = []
        parts = self._parts(now_ms)
        for name, part in parts.items():
            until_ms, last = self._resting.get(name, (0, None))
            if last is None or now_ms >= until_ms:
                last = self._try(name, part, reading, now_ms)
            if last is not None:
                failed.append(last)
                reading.lacks(name, last.message, last.hint or _SEE)
        if len(failed) == len(parts):
            waits_s = [error.retry_after_s for error in failed]
            raise PollFailed(
                failed[0].message,
                hint=failed[0].hint,
                retry_after_s=min((wait for wait in waits_s if wait is not None), default=None),
            )
        return reading

    def _parts(self, now_ms: int) -> dict[str, Part]:
        wanted = self._settings
        parts: dict[str, Part] = {}
        if wanted.autoscaling:
            parts["Auto Scaling groups"] = partial(read_groups, self._scaling, wanted.groups)
            parts["scaling activities"] = partial(
                self._activities.read, self._scaling, wanted.groups
            )
        if wanted.figures:
            parts["CloudWatch"] = partial(ask, self._figures, wanted.figures, now_ms)
        return parts

    def _try(self, name: str, part: Part, reading: Reading, now_ms: int) -> PollFailed | None:
        self._resting.pop(name, None)
        try:
            part(reading)
        except PollFailed as error:
            if error.retry_after_s is not None:
                self._resting[name] = (now_ms + round(error.retry_after_s * 1000), error)
            return error
        return None
