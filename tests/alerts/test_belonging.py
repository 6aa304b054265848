"""Which alerts are one incident, and by what: service, cause, who calls whom, time."""

from __future__ import annotations

import pytest

from alerts.incidents import Incident, IncidentChanges, follow
from alerts.model import Alert
from alerts.state import AlertRecord, advance, fingerprint
from detectors.topology import NO_CALLS, Topology
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
