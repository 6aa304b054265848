"""Which alerts are one incident, and by what: service, cause, who calls whom, time."""

from __future__ import annotations

from collections import Counter

import pytest

from alerts.incidents import Incident, IncidentChanges, follow
from alerts.model import Alert
from alerts.state import AlertRecord, advance, fingerprint
from detectors.topology import NO_CALLS, Topology, _Graph
from store.model import Labels
from store.timestamps import rfc3339

NOW_MS = 1_795_766_400_000
MINUTE_MS = 60_000
SHOP = Topology(
    {
        "web": frozenset({"checkout"}),
        "checkout": frozenset({"payments"}),
        "search": frozenset({"index"}),
    }
)


def record(
    name: str, at_ms: int, annotations: dict[str, str] | None = None, **labels: str
) -> AlertRecord:
    named = Labels.of({"alertname": name, "severity": "page", **labels})
    found = advance(None, Alert(labels=named, annotations=annotations or {}), at_ms)
    assert found is not None
    return found


def after(
    *records: AlertRecord, topology: Topology = SHOP, minutes: float = 0.0
) -> tuple[Incident, ...]:
    """The incidents after the first alert fires alone, and all of them so many minutes later."""
    first = records[0]
    changes = follow({first.fingerprint: first}, (), NOW_MS, topology=topology)
    every = {one.fingerprint: one for one in records}
    later_ms = NOW_MS + round(minutes * MINUTE_MS)
    second: IncidentChanges = follow(every, changes.unresolved, later_ms, topology=topology)
    return second.unresolved


def reasons(incidents: tuple[Incident, ...]) -> list[list[str]]:
    return [[part.reason for part in incident.alerts] for incident in incidents]


PAYMENTS = record("PaymentErrors", NOW_MS, service="payments")
CHECKOUT = record("CheckoutSlow", NOW_MS, service="checkout")
SEARCH = record("SearchSlow", NOW_MS, service="search")


@pytest.mark.parametrize(("first", "second"), [(PAYMENTS, CHECKOUT), (CHECKOUT, PAYMENTS)])
def test_a_service_and_one_that_calls_it_are_one_incident_by_topology(
    first: AlertRecord, second: AlertRecord
) -> None:
    assert reasons(after(first, second, minutes=3)) == [["first_alert", "topology"]]


def test_a_call_over_three_services_still_counts() -> None:
    web = record("WebErrors", NOW_MS, service="web")
    assert reasons(after(PAYMENTS, web, minutes=1)) == [["first_alert", "topology"]]


def test_a_database_that_is_down_and_those_that_ask_it_are_one_incident() -> None:
    asked = frozenset({"db1:5432"})
    web = frozenset({"checkout", "search", "account"})
    shop = Topology({"web": web, "checkout": asked, "search": asked, "account": asked})
    down = record("DbDown", NOW_MS, instance="db1:9104")
    callers = [record("Errors", NOW_MS, service=name) for name in (*web, "web")]
    for alerts in ([down, *callers], callers, [*callers, down]):
        (incident,) = after(*alerts, topology=shop, minutes=1)
        assert [part.reason for part in incident.alerts[1:]] == ["topology"] * (len(alerts) - 1)


def test_those_that_reach_the_same_host_over_others_are_one_incident() -> None:
    calls = {"checkout": "payments", "payments": "bank", "search": "index", "index": "bank"}
    shop = Topology({caller: frozenset({called}) for caller, called in calls.items()})
    assert reasons(after(CHECKOUT, SEARCH, topology=shop)) == [["first_alert", "topology"]]


def test_a_chain_of_calls_counts_however_long() -> None:
    chain = Topology({f"s{n}": frozenset({f"s{n + 1}"}) for n in range(9)})
    ends = [record("Errors", NOW_MS, service=name) for name in ("s0", "s9")]
    assert reasons(after(*ends, topology=chain)) == [["first_alert", "topology"]]


def test_two_alerts_on_one_host_are_one_incident_though_their_services_are_apart() -> None:
    one = record("PaymentErrors", NOW_MS, service="payments", instance="node-7:8080")
    two = record("SearchSlow", NOW_MS, service="search", host="node-7")
    assert reasons(after(one, two, minutes=1)) == [["first_alert", "topology"]]


def test_a_host_that_only_others_ask_is_apart() -> None:
    disk = record("DiskFull", NOW_MS, instance="index:9100")
    assert reasons(after(PAYMENTS, disk, minutes=1)) == [["first_alert"], ["first_alert"]]


def test_everybody_s_own_machine_joins_nothing() -> None:
    local = frozenset({"localhost:5432", "127.0.0.1"})
    shop = Topology({"payments": local | {"bank"}, "search": local | {"index"}})
    one = record("PaymentErrors", NOW_MS, service="payments", instance="127.0.0.1:80")
    two = record("SearchSlow", NOW_MS, service="search", instance="127.0.0.1:81")
    assert reasons(after(one, two, topology=shop)) == [["first_alert"], ["first_alert"]]


def test_what_a_service_reaches_is_worked_out_once_however_many_alerts_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: Counter[int] = Counter()
    reached = _Graph._reached

    def counting(graph: _Graph, bit: int) -> int:
        asked[bit] += 1
        return reached(graph, bit)

    monkeypatch.setattr(_Graph, "_reached", counting)
    calls = Topology({f"s{n}": frozenset({f"db{n}"}) for n in range(60)})
    alerts = [record("Errors", NOW_MS, service=name) for name in calls.calls]
    assert len(after(*alerts, topology=calls)) == 60
    assert set(asked.values()) == {1}


def test_later_than_some_minutes_who_calls_whom_says_nothing() -> None:
    assert reasons(after(PAYMENTS, CHECKOUT, minutes=6)) == [["first_alert"], ["first_alert"]]


def test_services_that_traces_show_to_be_apart_are_two_incidents_at_the_same_time() -> None:
    assert reasons(after(PAYMENTS, SEARCH, minutes=1)) == [["first_alert"], ["first_alert"]]


@pytest.mark.parametrize("topology", [NO_CALLS, SHOP])
def test_what_traces_do_not_know_joins_by_time(topology: Topology) -> None:
    host = record("DiskFull", NOW_MS, instance="db1")
    mail = record("MailSlow", NOW_MS, service="mail")
    for other in (host, mail):
        found = after(PAYMENTS, other, topology=topology, minutes=1)
        assert reasons(found) == [["first_alert", "time"]]


def test_the_same_service_belongs_there_however_late() -> None:
    again = record("PaymentSlow", NOW_MS, service="payments")
    assert reasons(after(PAYMENTS, again, minutes=90)) == [["first_alert", "same_service"]]


def test_the_same_probable_cause_makes_one_incident_of_services_that_are_apart() -> None:
    deploy = {"cause_ref": "deploy-1"}
    one = record("PaymentErrors", NOW_MS, deploy, service="payments")
    two = record("SearchSlow", NOW_MS, deploy, service="search")
    assert reasons(after(one, two, minutes=30)) == [["first_alert", "shared_cause"]]


def test_a_finding_and_the_alert_that_it_explains_are_one_incident() -> None:
    finding = record("NPlusOneQuery", NOW_MS, service="search", fingerprint="f00d")
    burn = record("PayBurn", NOW_MS, {"cause_ref": "/findings/f00d"}, service="payments")
    assert reasons(after(finding, burn, minutes=30)) == [["first_alert", "shared_cause"]]


def test_the_stronger_reason_chooses_among_open_incidents() -> None:
    changes = follow(
        {one.fingerprint: one for one in (PAYMENTS, SEARCH)}, (), NOW_MS, topology=SHOP
    )
    index = record("IndexSlow", NOW_MS, service="index")
    every = {one.fingerprint: one for one in (PAYMENTS, SEARCH, index)}
    found = follow(every, changes.unresolved, NOW_MS + MINUTE_MS, topology=SHOP).unresolved
    (home,) = [i for i in found if any(p.fingerprint == index.fingerprint for p in i.alerts)]
    assert [part.labels.get("service") for part in home.alerts] == ["search", "index"]


@pytest.mark.parametrize(
    ("since", "began_ms"),
    [
        (rfc3339(NOW_MS - 4 * MINUTE_MS), NOW_MS - 4 * MINUTE_MS),
        (rfc3339(NOW_MS - 30 * 24 * 60 * MINUTE_MS), NOW_MS),
        (rfc3339(NOW_MS + MINUTE_MS), NOW_MS),
        ("2026-11-27T08:00:00", NOW_MS),
        ("this morning", NOW_MS),
        ("", NOW_MS),
    ],
)
def test_an_incident_begins_with_the_fault_where_the_data_say_when(
    since: str, began_ms: int
) -> None:
    one = record("PayBurn", NOW_MS, {"since": since}, service="payments")
    (incident,) = follow({one.fingerprint: one}, (), NOW_MS).unresolved
    assert (incident.started_ms, incident.detected_ms) == (began_ms, NOW_MS)


def test_an_alert_that_begins_again_keeps_its_reason() -> None:
    (incident,) = after(PAYMENTS, CHECKOUT, minutes=1)
    quiet = {PAYMENTS.fingerprint: PAYMENTS}
    calm = follow(quiet, (incident,), NOW_MS + 2 * MINUTE_MS, topology=SHOP).unresolved
    identity = fingerprint(CHECKOUT.labels)
    back = follow(
        {**quiet, identity: CHECKOUT}, calm, NOW_MS + 3 * MINUTE_MS, topology=NO_CALLS
    ).unresolved
    assert sorted(reasons(back)[0]) == ["first_alert", "topology"]
