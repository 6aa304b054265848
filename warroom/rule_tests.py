"""`warroom test rules FILE…`: test files, the rules that they name, the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from alerts.rule_files import RuleFile, parse_rule_file
from alerts.rule_tests.run import Failure, run_rule_tests
from alerts.rule_tests.spec import RuleTestFile, parse_rule_tests
from store.errors import ConfigError

Show = Callable[[str], None]
_MAX_FILE = 16 << 20


def run_rule_test_files(names: Sequence[str], show: Show) -> int:
    """Run every file, and print what promtool would.

    Returns:
        0 when all tests hold, 1 when one failed or a file could not be read.
    """
    failed = False
    for name in names:
        show(f"Unit Testing:  {name}")
        try:
            failures = _run(name, show)
        except ConfigError as exc:
            failures = [Failure("", None, str(exc))]
        if failures:
            failed = True
            show("  FAILED:")
            for failure in failures:
                show(_told(name, failure))
        else:
            show("  SUCCESS")
        show("")
    return 1 if failed else 0


def _run(name: str, show: Show) -> list[Failure]:
    tests = parse_rule_tests(_read(name), name)
    return run_rule_tests(tests, _rules(tests, show))


def _rules(tests: RuleTestFile, show: Show) -> list[RuleFile]:
    base = Path(tests.file).parent
    files: list[RuleFile] = []
    for pattern in tests.rule_files:
        root = Path(Path(pattern).anchor or base)
        relative = str(Path(pattern).relative_to(Path(pattern).anchor or "."))
        names = sorted(str(path) for path in root.glob(relative) if path.is_file())
        if not names:
            show(f"  WARNING: no file match pattern {root / relative}")
        files += [parse_rule_file(_read(name), name) for name in names]
    return files


def _read(name: str) -> str:
    try:
        path = Path(name)
        if path.stat().st_size > _MAX_FILE:
            raise ConfigError(f"is larger than {_MAX_FILE} bytes", file=name)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot be read: {exc}", file=name) from exc


def _told(name: str, failure: Failure) -> str:
    where = f"{name}:{failure.line}: " if failure.line is not None else ""
    test = f" (test {failure.test!r})" if failure.test else ""
    first, *rest = failure.text.split("\n")
    return "\n".join(f"    {line}" for line in (f"{where}{first}{test}", *rest)) + "\n"
