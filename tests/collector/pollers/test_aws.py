"""The AWS poller through AWS's own client, against a server that answers by AWS's own models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.pollers.aws.cloudwatch import Figure, _result
from collector.polling.aws_client import refusal
from collector.polling.contract import Denied, Reading
from store.errors import ConfigError
from tests.collector.conftest import Serve
from tests.collector.pollers.asking import Asking, targets_of
from tests.collector.pollers.aws_server import AwsServer, Refused
from tests.collector.pollers.conftest import Ask

SECRETS = {"KEY": "AKIAEXAMPLE", "SECRET": "s3cr3t-of-the-account"}
METRICS = (
    "metrics: [{namespace: AWS/ApplicationELB, metric: RequestCount, statistic: Sum, "
    "dimensions: {LoadBalancer: app/shop/1}}, "
    "{namespace: AWS/RDS, metric: CPUUtilization, dimensions: {DBInstanceIdentifier: db}}]"
)
FIGURE = "aws_applicationelb_request_count_sum"
ACTIVITIES = "aws_autoscaling_activities_total"


def group(name: str, desired: int, *states: str, most: int = 10) -> dict[str, Any]:
    return {
        "AutoScalingGroupName": name,
        "MinSize": 2,
        "MaxSize": most,
        "DesiredCapacity": desired,
        "DefaultCooldown": 300,
        "AvailabilityZones": ["eu-central-1a"],
        "HealthCheckType": "ELB",
        "CreatedTime": datetime(2026, 1, 1, tzinfo=UTC),
        "Instances": [
            {
                "InstanceId": f"i-{place}",
                "AvailabilityZone": "eu-central-1a",
                "LifecycleState": state,
                "HealthStatus": "Unhealthy" if state == "Terminating:Wait" else "Healthy",
                "ProtectedFromScaleIn": False,
            }
            for place, state in enumerate(states)
        ],
        "SuspendedProcesses": [{"ProcessName": "Launch", "SuspensionReason": "by hand & tool"}],
    }


def activity(identity: str, status: str, group_name: str = "web") -> dict[str, Any]:
    return {
        "ActivityId": identity,
        "AutoScalingGroupName": group_name,
        "Cause": "a wish",
        "StartTime": datetime(2026, 1, 1, tzinfo=UTC),
        "StatusCode": status,
    }


def fresh(**answers: Any) -> AwsServer:
    """An account with one group, whose answers a test may change."""
    found: dict[str, Any] = {
        "DescribeAutoScalingGroups": {"AutoScalingGroups": [group("web", 4, *["InService"] * 4)]},
        "DescribeScalingActivities": {"Activities": []},
        "GetMetricData": {"MetricDataResults": []},
        **answers,
    }
    return AwsServer({name: operation(answer) for name, answer in found.items()})


def operation(answer: Any) -> Any:
    """A function is called, an error is answered, anything else is the answer."""

    def call(asked: Mapping[str, Any]) -> Any:
        if isinstance(answer, Refused):
            raise answer
        return answer(asked) if callable(answer) else answer

    return call


def entry(url: str, more: str = "") -> str:
    return (
        f"pollers: [{{type: aws, name: eu, region: eu-central-1, autoscaling_url: '{url}', "
        f"cloudwatch_url: '{url}', access_key_id_env: KEY, secret_access_key_env: SECRET, "
        # AWS's client first reads megabytes of descriptions: a busy machine takes its time.
        f"timeout: 30s{more}}}]"
    )


def opened(ask: Ask, serve: Serve, server: AwsServer, more: str = "") -> Asking:
    return ask(entry(serve(server.routes()), more), SECRETS)


def test_groups_tell_their_bounds_and_the_states_of_their_instances(ask: Ask, serve: Serve) -> None:
    states = ["InService"] * 5 + ["Pending:Wait", "Terminating:Wait", "Standby"]
    server = fresh(
        DescribeAutoScalingGroups={"AutoScalingGroups": [group("web", 7, *states), group("b", 2)]}
    )
    asking = opened(ask, serve, server)
    answer = asking.poll(60_000)
    assert asking.status.error == ""
    told = {
        series.metric.removeprefix("aws_autoscaling_group_"): value
        for series, value in answer.samples.items()
        if series.get("group_name") == "web" and "_group_" in series.metric
    }
    assert told == {
        "desired_capacity": 7,
        "min_size": 2,
        "max_size": 10,
        "in_service_instances": 5,
        "pending_instances": 1,
        "terminating_instances": 1,
        "standby_instances": 1,
        "unhealthy_instances": 1,
        "total_instances": 8,
        "suspended_processes": 1,
    }
    assert answer.value("aws_autoscaling_group_total_instances", group_name="b") == 0
    assert "Credential=AKIAEXAMPLE/" in server.signed_by[0]
    assert "/eu-central-1/autoscaling/aws4_request" in server.signed_by[0]


def test_every_page_of_groups_is_read_up_to_the_limit(ask: Ask, serve: Serve) -> None:
    def page(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        number = int(asked.get("NextToken", 0))
        return {"AutoScalingGroups": [group(f"g{number}", 2)], "NextToken": str(number + 1)}

    server = fresh(DescribeAutoScalingGroups=page)
    asking = opened(ask, serve, server)
    answer = asking.poll(60_000)
    assert len(answer.values("aws_autoscaling_group_max_size")) == 10
    assert server.count("DescribeAutoScalingGroups") == 10
    assert server.asked[0][1]["MaxRecords"] == "100"
    assert "only 1000 groups" in asking.status.error


def test_named_groups_are_asked_by_name_and_one_that_is_not_there_is_told(
    ask: Ask, serve: Serve
) -> None:
    server = fresh()
    asking = opened(ask, serve, server, ", groups: [web, gone]")
    assert asking.poll(60_000).value("aws_autoscaling_group_max_size", group_name="web") == 10
    asked = server.asked[0][1]
    assert [asked[f"AutoScalingGroupNames.member.{place}"] for place in (1, 2)] == ["web", "gone"]
    assert "group gone: AWS knows no such group" in asking.status.error


def test_each_change_of_size_counts_once_when_it_has_ended(ask: Ask, serve: Serve) -> None:
    history = [activity("1", "Successful")]
    server = fresh(DescribeScalingActivities=lambda _asked: {"Activities": history})
    asking = opened(ask, serve, server)
    first = asking.poll(60_000)
    assert first.value(ACTIVITIES, group_name="web", status="successful") == 0
    history[:0] = [activity("3", "InProgress"), activity("2", "Failed")]
    assert asking.poll(60_000).value(ACTIVITIES, status="failed") == 1
    history[0] = activity("3", "Successful")
    later = asking.poll(60_000)
    assert later.value(ACTIVITIES, status="failed") == 1
    assert later.value(ACTIVITIES, status="successful") == 1
    assert asking.status.error == ""


def results(*points: float, status: str = "Complete") -> Any:
    def answer(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        end = asked["EndTime"]
        end_s = end.timestamp() if isinstance(end, datetime) else float(end)
        start_s = end_s // 60 * 60 - 60 * len(points)
        times = [
            datetime.fromtimestamp(start_s + 60 * place, UTC) for place, _ in enumerate(points)
        ]
        return {
            "MetricDataResults": [
                {
                    "Id": "m0",
                    "Label": "RequestCount",
                    "Timestamps": times,
                    "Values": list(points),
                    "StatusCode": "Complete",
                },
                {
                    "Id": "m1",
                    "Label": "CPUUtilization",
                    "Timestamps": [],
                    "Values": [],
                    "StatusCode": status,
                },
            ]
        }

    return answer


def stored(asking: Asking, name: str) -> list[tuple[int, float]]:
    return next(rows for series, rows in asking.appender.samples().items() if series.metric == name)


def test_figures_of_cloudwatch_have_the_exporters_names_and_their_own_times(
    ask: Ask, serve: Serve
) -> None:
    server = fresh(GetMetricData=results(120.0, 90.5))
    asking = opened(ask, serve, server, f", {METRICS}")
    answer = asking.poll(60_000)
    assert asking.status.error == ""
    assert answer.value(FIGURE, load_balancer="app/shop/1") == 90.5
    newest_ms = asking.clock.now_ms // 60_000 * 60_000 - 60_000
    assert stored(asking, FIGURE) == [(newest_ms - 60_000, 120.0), (newest_ms, 90.5)]
    asked = next(asked for name, asked in server.asked if name == "GetMetricData")
    assert [query["MetricStat"]["Stat"] for query in asked["MetricDataQueries"]] == [
        "Sum",
        "Average",
    ]
    assert asked["MetricDataQueries"][1]["MetricStat"]["Metric"] == {
        "Namespace": "AWS/RDS",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "db"}],
    }


def test_a_figure_that_may_not_be_read_leaves_the_others(ask: Ask, serve: Serve) -> None:
    asking = opened(
        ask, serve, fresh(GetMetricData=results(1.0, status="Forbidden")), f", {METRICS}"
    )
    assert asking.poll(60_000).value(FIGURE) == 1
    assert "aws_rds_cpuutilization_average: CloudWatch says Forbidden" in asking.status.error
    assert "cloudwatch:GetMetricData" in asking.status.remedy


@pytest.mark.parametrize("code", ["Throttling", "ThrottlingException", "RequestLimitExceeded"])
def test_a_part_that_is_throttled_is_left_alone_while_the_others_go_on(
    code: str, ask: Ask, serve: Serve
) -> None:
    server = fresh(GetMetricData=Refused(code, "Rate exceeded", retry_after="300"))
    asking = opened(ask, serve, server, f", {METRICS}, interval: 1m")
    for _ in range(4):
        answer = asking.poll(60_000)
        assert answer.value("up") == 1
        assert answer.value("aws_autoscaling_group_max_size") == 10
        assert f"CloudWatch: get_metric_data: {code}: Rate exceeded" in asking.status.error
    assert server.count("GetMetricData") == 1
    server.operations["GetMetricData"] = results(7.0)
    asking.poll(60_000)
    assert asking.poll(60_000).value(FIGURE) == 7
    assert asking.status.error == ""


def test_an_account_that_is_throttled_everywhere_is_down_and_backed_off_from(
    ask: Ask, serve: Serve
) -> None:
    throttled = Refused("Throttling", "Rate exceeded")
    server = fresh(DescribeAutoScalingGroups=throttled, DescribeScalingActivities=throttled)
    asking = opened(ask, serve, server, ", interval: 30s")
    for _ in range(8):
        assert asking.poll(5_000).value("up") == 0
    # AWS's own client would have asked again, several times.
    assert server.count("DescribeAutoScalingGroups") == 1
    assert "Throttling: Rate exceeded" in asking.status.error
    server.operations["DescribeAutoScalingGroups"] = operation({"AutoScalingGroups": []})
    server.operations["DescribeScalingActivities"] = operation({"Activities": []})
    assert asking.poll(60_000).value("up") == 1


@pytest.mark.parametrize(
    ("refused", "told", "remedy"),
    [
        (Refused("AccessDenied", "not authorized to perform", 403), "not authorized", "IAM policy"),
        (Refused("InvalidClientTokenId", "The token is invalid", 403), "invalid", "keys"),
        (Refused("ExpiredToken", "The token is expired", 403), "expired", "session token"),
        (Refused("ServiceUnavailable", "Try later", 503), "Try later", "region"),
    ],
)
def test_refusals_are_told_with_what_to_do(
    refused: Refused, told: str, remedy: str, ask: Ask, serve: Serve
) -> None:
    server = fresh(DescribeAutoScalingGroups=refused, DescribeScalingActivities=refused)
    asking = opened(ask, serve, server)
    assert asking.poll(60_000).value("up") == 0
    assert told in asking.status.error
    assert remedy in asking.status.remedy
    assert SECRETS["SECRET"] not in f"{asking.status}"


def test_a_policy_that_lacks_one_right_leaves_the_rest(ask: Ask, serve: Serve) -> None:
    server = fresh(DescribeScalingActivities=Refused("AccessDenied", "not authorized", 403))
    asking = opened(ask, serve, server)
    assert asking.poll(60_000).value("aws_autoscaling_group_desired_capacity") == 4
    assert "scaling activities: " in asking.status.error
    assert "IAM policy" in asking.status.remedy


def test_keys_come_from_a_credentials_file_and_no_machine_is_asked_for_any(
    ask: Ask, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    file = tmp_path / "credentials"
    file.write_text("[shop]\naws_access_key_id = AKIAFROMFILE\naws_secret_access_key = x\n")
    server = fresh()
    url = serve(server.routes())
    keys = "access_key_id_env: KEY, secret_access_key_env: SECRET"
    with_file = entry(url).replace(keys, f"profile: shop, credentials_file: '{file}'")
    assert ask(with_file).poll(60_000).value("up") == 1
    assert "Credential=AKIAFROMFILE/" in server.signed_by[0]
    without = ask(entry(url).replace(f", {keys}", f", credentials_file: '{tmp_path / 'none'}'"))
    assert without.poll(60_000).value("up") == 0
    assert "credentials" in without.status.error
    assert "access_key_id_env" in without.status.remedy


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("autoscaling: true", "this poller needs it"),
        ("region: mars", "no region"),
        ("region: eu-central-1, access_key_id_env: KEY", "together"),
        (
            "region: eu-central-1, access_key_id_env: KEY, secret_access_key_env: SECRET, "
            "profile: shop",
            "either keys",
        ),
        ("region: eu-central-1, autoscaling: false", "nothing is asked"),
        ("region: eu-central-1, metrics: [{metric: A}]", "namespace: a metric needs it"),
        ("region: eu-central-1, metrics: [{namespace: A, metric: B, statistic: p101}]", "p99"),
        ("region: eu-central-1, metrics: [{namespace: A, metric: B, period: 90s}]", "minutes"),
        ("region: eu-central-1, metrics: [{namespace: A, metric: B, unit: s}]", "unit"),
        ("region: eu-central-1, cloudwatch_url: 'http://169.254.169.254'", "link-local"),
        (f"region: eu-central-1, groups: [{','.join('g' * 51)}]", "at most 50"),
    ],
)
def test_a_mistake_is_refused_at_the_start(fields: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        targets_of(f"pollers: [{{type: aws, {fields}}}]", SECRETS)


def test_names_and_labels_are_those_of_cloudwatch_exporter() -> None:
    names = {
        ("AWS/EC2", "CPUUtilization", "Average"): "aws_ec2_cpuutilization_average",
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum"): (
            "aws_sqs_approximate_age_of_oldest_message_maximum"
        ),
        ("AWS/ApplicationELB", "TargetResponseTime", "p99.9"): (
            "aws_applicationelb_target_response_time_p99_9"
        ),
        ("Shop/Web Tier", "orders-per-minute", "SampleCount"): (
            "shop_web_tier_orders_per_minute_sample_count"
        ),
    }
    assert {key: Figure(*key, {}).name for key in names} == names
    figure = Figure("AWS/RDS", "A", "Sum", {"DBInstanceIdentifier": "a", "QueueName": "b"})
    assert figure.labels == {"dbinstance_identifier": "a", "queue_name": "b"}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Id", "Timestamps", "Values", "StatusCode", "Error", "Code"]),
            inner | st.sampled_from(["m0", "m9", "Complete", "Throttling"]),
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["Id", "Timestamps", "Values", "StatusCode"]), JSON))
def test_any_result_is_read_without_raising(answer: dict[str, Any]) -> None:
    reading = Reading()
    _result([Figure("A", "B", "Sum", {})], answer, reading)
    assert all(sample.name == "a_b_sum" for sample in reading.samples)


@given(st.text(max_size=8), st.sampled_from([400, 403, 429, 500]), st.text(max_size=6))
def test_any_error_answer_is_a_failed_poll(code: str, status: int, wait: str) -> None:
    told = {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": wait}}
    failed = refusal("it", {"Error": {"Code": code}, "ResponseMetadata": told})
    assert (failed.retry_after_s is not None) >= (status == 429)
    assert failed.retry_after_s is None or 1 <= failed.retry_after_s <= 600
    assert not isinstance(failed, Denied) or status != 429
