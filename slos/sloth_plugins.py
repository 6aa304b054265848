"""Sloth's chains of SLO plugins: how `sloth generate` would write its rules.

They are Go programs and are not run. Those of Sloth itself that change only how its rules are
written have no effect on an SLO here; labels on the info series are taken over. A chain with
any other is refused, for nobody knows what it would have done.
"""

from __future__ import annotations

from slos.fields import Fields

# What each is for, and why it changes nothing here.
_WITHOUT_EFFECT = {
    "sloth.dev/core/alert_rules/v1": "the usual rules",
    "sloth.dev/core/debug/v1": "prints",
    "sloth.dev/core/metadata_rules/v1": "the usual rules",
    "sloth.dev/core/noop/v1": "nothing",
    "sloth.dev/core/sli_rules/v1": "the usual rules",
    "sloth.dev/core/validate/v1": "checks the file",
    "sloth.dev/contrib/denominator_corrected_rules/v1": "budgets are weighted by events anyway",
    "sloth.dev/contrib/rule_intervals/v1": "SLOs are judged at every tick",
    "sloth.dev/contrib/validate_victoria_metrics/v1": "checks the file",
}
_INFO_LABELS = "sloth.dev/contrib/info_labels/v1"
_CHAIN = ("chain", "overridePrevious", "override_previous")


def read_chain(holder: Fields, key: str) -> dict[str, str]:
    """Labels that a chain puts on `sloth_slo_info`.

    Raises:
        ConfigError: The chain holds a plugin that would change what is measured or told.
    """
    labels: dict[str, str] = {}
    if key not in holder:
        return labels
    chain = holder.mapping(key, _CHAIN)
    for place in range(len(chain.entries("chain"))):
        plugin = chain.entry("chain", place, ("id", "priority", "config"))
        name = plugin.text("id", hint="write a plugin's id")
        if name == _INFO_LABELS:
            config = plugin.mapping("config", ("labels", "metricName", "metric_name"))
            labels |= config.texts("labels")
        elif name not in _WITHOUT_EFFECT:
            plugin.fail(
                "id",
                f"the Sloth plugin {name!r} is not run here",
                hint="remove it from the chain, or write what it adds as a rule in rule_files",
            )
    return labels
