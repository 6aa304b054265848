"""Auto Scaling groups: their bounds, their instances, and what came of each change of size."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from collector.polling.aws_client import AwsClient
from collector.polling.contract import Reading
from collector.polling.json_shapes import items, mapping, number

PAGE = 100
MAX_GROUP_PAGES = 10
MAX_ACTIVITY_PAGES = 5
MAX_KNOWN_ACTIVITIES = 2_000
_PREFIX = "aws_autoscaling_group_"
_SIZES = {
    "DesiredCapacity": "desired_capacity",
    "MinSize": "min_size",
    "MaxSize": "max_size",
}
# The part of a life cycle state before its colon -> CloudWatch's own word for those instances.
_STATES = {
    "InService": "in_service_instances",
    "Pending": "pending_instances",
    "Standby": "standby_instances",
    "Terminating": "terminating_instances",
}
_ENDED = ("Successful", "Failed", "Cancelled")


def read_groups(client: AwsClient, names: tuple[str, ...], reading: Reading) -> None:
    """`aws_autoscaling_group_*{group_name}`: sizes wanted, allowed and there.

    The names are those that cloudwatch_exporter gives the metrics of the namespace
    AWS/AutoScaling, without the statistic: these are the group's own figures, not an average.

    Raises:
        PollFailed: The API refuses.
    """
    for group in _groups(client, names, reading):
        labels = {"group_name": str(group.get("AutoScalingGroupName", ""))}
        for field, name in _SIZES.items():
            size = number(group.get(field))
            if size is not None:
                reading.gauge(_PREFIX + name, size, labels)
        instances = [mapping(each) for each in items(group.get("Instances"))]
        states = Counter(str(each.get("LifecycleState")).partition(":")[0] for each in instances)
        for state, name in _STATES.items():
            reading.gauge(_PREFIX + name, states[state], labels)
        unhealthy = sum(each.get("HealthStatus") == "Unhealthy" for each in instances)
        reading.gauge(f"{_PREFIX}unhealthy_instances", unhealthy, labels)
        reading.gauge(f"{_PREFIX}total_instances", len(instances), labels)
        suspended = items(group.get("SuspendedProcesses"))
        reading.gauge(f"{_PREFIX}suspended_processes", len(suspended), labels)


def _groups(
    client: AwsClient, names: tuple[str, ...], reading: Reading
) -> Iterator[Mapping[str, Any]]:
    asked: dict[str, Any] = {"MaxRecords": PAGE}
    if names:
        asked["AutoScalingGroupNames"] = list(names)
    told, more = set(), False
    for page in client.pages("describe_auto_scaling_groups", asked, most=MAX_GROUP_PAGES):
        more = bool(page.get("NextToken"))
        for group in map(mapping, items(page.get("AutoScalingGroups"))):
            told.add(group.get("AutoScalingGroupName"))
            yield group
    if more:
        most = f"only {MAX_GROUP_PAGES * PAGE} groups are read"
        reading.lacks("groups", most, "Name the groups of the shop under groups.")
    for name in names:
        if name not in told:
            reading.lacks(f"group {name}", "AWS knows no such group", "Check its name and region.")


class Activities:
    """Counts how changes of size ended, each once; what ended before the first poll is not told.

    A change that fails, for want of capacity or of a right, is why a group stays too small.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._totals: Counter[tuple[str, str]] = Counter()
        self._started = False

    def read(self, client: AwsClient, names: tuple[str, ...], reading: Reading) -> None:
        """`aws_autoscaling_activities_total{group_name,status}`.

        Raises:
            PollFailed: The API refuses.
        """
        ended: dict[str, tuple[str, str]] = {}
        for page in client.pages(
            "describe_scaling_activities", {"MaxRecords": PAGE}, most=MAX_ACTIVITY_PAGES
        ):
            fresh = self._fresh(page)
            ended.update(fresh)
            if not fresh:
                # The newest come first: what follows is known, too.
                break
        for identity, (group, status) in reversed(ended.items()):
            self._known[identity] = None
            for each in _ENDED:
                self._totals[group, each] += 0
            if self._started:
                self._totals[group, status] += 1
        while len(self._known) > MAX_KNOWN_ACTIVITIES:
            self._known.popitem(last=False)
        self._started = True
        for (group, status), count in self._totals.items():
            if not names or group in names:
                labels = {"group_name": group, "status": status.lower()}
                reading.counter("aws_autoscaling_activities_total", count, labels)

    def _fresh(self, page: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        found = {}
        for activity in map(mapping, items(page.get("Activities"))):
            identity, status = str(activity.get("ActivityId", "")), activity.get("StatusCode")
            if status in _ENDED and identity not in self._known:
                found[identity] = (str(activity.get("AutoScalingGroupName", "")), str(status))
        return found
