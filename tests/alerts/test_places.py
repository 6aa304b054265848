"""Where alerts go is remembered, and is what the tree of routes says of each of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerts.places import Places
from alerts.routing import parse_alertmanager
from store.model import Labels

ROUTING = """
route:
  receiver: a
  group_by: [alertname]
  routes:
    - {matchers: ['team=~"x|y"'], receiver: b, group_by: [GROUP], continue: true}
    - {matchers: ['severity!="page"'], receiver: c}
receivers: [{name: a}, {name: b}, {name: c}]
"""
LABELS = st.fixed_dictionaries(
    {"alertname": st.sampled_from("ABC")},
    optional={
        "team": st.sampled_from("xyz"),
        "severity": st.sampled_from(["page", "ticket"]),
        "host": st.sampled_from("123"),
    },
)


@given(st.lists(LABELS, max_size=20), st.sampled_from(["host", "team", "..."]))
def test_an_alert_goes_where_the_routes_say_whoever_was_asked_about_before(
    alerts: list[dict[str, str]], group_by: str
) -> None:
    routing = parse_alertmanager(ROUTING.replace("GROUP", f"'{group_by}'"), "am.yml")
    places = Places(routing)
    for number, pairs in enumerate([*alerts, *alerts]):
        labels = Labels.of(pairs)
        found = places.of(str(number), labels)
        assert [place[:2] for place in found] == [
            (route, route.group_labels(labels)) for route in routing.route.match(labels)
        ]
        assert found == Places(routing).of("", labels)


def test_alerts_that_are_gone_are_forgotten_when_they_are_many() -> None:
    places = Places(parse_alertmanager(ROUTING, "am.yml"))
    for number in range(1_010):
        places.of(str(number), Labels.of(alertname="A", host=str(number)))
    assert places.kept({"1", "2"}, 600) is places
    left = places.kept({"1", "2"}, 2)
    assert left is not places
    assert left.of("1", Labels.of(alertname="B")) == places.of("1", Labels.of())
