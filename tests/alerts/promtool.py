"""The real promtool, and Warroom's own `test rules`, asked about the same files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from warroom.rule_tests import run_rule_test_files

_CASE = re.compile(
    r"(alertname: \S+, time: \w+|expr: .*, time: \w+|rule: [\w:]+, time: (?:\d\w*|0s))",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Verdict:
    """Whether a file passed, and which of its cases did not."""

    passed: bool
    failed: tuple[str, ...]


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing (Debian package prometheus)")
        pytest.skip("promtool is not installed")
    return found


def asked_promtool(directory: Path, names: Sequence[str]) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    for name in names:
        told = subprocess.run(
            [promtool(), "test", "rules", name],
            check=False,
            cwd=directory,
            capture_output=True,
            text=True,
        )
        found[name] = _verdict(told.returncode, told.stdout + told.stderr)
    return found


def asked_warroom(directory: Path, names: Sequence[str]) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    for name in names:
        lines: list[str] = []
        code = run_rule_test_files([str(directory / name)], lines.append)
        found[name] = _verdict(code, "\n".join(lines))
    return found


def _verdict(code: int, text: str) -> Verdict:
    assert code in (0, 1), text
    # Go writes 1m0s where a rule failed, model.Duration 1m.
    cases = [re.sub(r"(?<=[hm])0[ms](0s)?\b", "", case) for case in _CASE.findall(text)]
    return Verdict(code == 0, tuple(sorted(cases)))
