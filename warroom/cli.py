"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from store.errors import WarroomError
from warroom import client, findings_command
from warroom.config import Options

_DEFAULT_URL = "http://127.0.0.1:8600"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 for a failure that is explained, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except WarroomError as exc:
        print(f"warroom: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warroom", description="Observability and SLO monitoring for an online shop."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _serve(commands.add_parser("serve", help="run the service"))
    _demo(commands.add_parser("demo", help="run it with the demo shop and play a sale day"))
    check = commands.add_parser("check", help="validate configuration, rules, SLOs, routes, boards")
    check.add_argument("--config", help="warroom.yaml")
    check.add_argument("--offline", action="store_true", help="do not try whether receivers answer")
    check.set_defaults(run=_run_check)
    _test(commands.add_parser("test", help="run unit tests of rules, in promtool's format"))
    warm = commands.add_parser(
        "warm-up", help="compile the kernels, so that the first start is quick"
    )
    warm.set_defaults(run=_run_warm_up)
    _ask(commands)
    _drill(
        commands.add_parser("drill", help="send a marked page through a route, tell its receipt")
    )
    _report(commands.add_parser("report", help="how good the alerts were: pages, noise, flapping"))
    _backups(commands)
    _backtest(commands)
    _explain(commands.add_parser("explain", help="plans of a polled database's dearest queries"))
    _board(commands.add_parser("board", help="make a board of a Grafana dashboard"))
    _loadtest(commands.add_parser("loadtest", help="keep the summary of a load test with k6"))
    _token(commands.add_parser("token", help="make, list and revoke API tokens"))
    return parser


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", help="warroom.yaml (default: sane defaults)")
    parser.add_argument("--data-dir", help="where everything is kept (default ./data)")
    parser.add_argument("--listen", help="main address (default 127.0.0.1:8600; port 0: any free)")
    parser.add_argument("--otlp-http", help="OTLP/HTTP address, or off (default 127.0.0.1:4318)")
    parser.add_argument("--otlp-grpc", help="OTLP/gRPC address, or off (default 127.0.0.1:4317)")
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy in front does TLS and authentication",
    )
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error")
    )
    parser.add_argument("--log-json", action="store_true", help="logs as JSON lines")
    parser.set_defaults(run=_run_serve)


def _run_serve(arguments: argparse.Namespace) -> int:
    from warroom.serve import serve  # noqa: PLC0415  # heavy, and other commands do without it

    options = Options(
        config=arguments.config,
        data_dir=arguments.data_dir,
        listen=arguments.listen,
        otlp_http=arguments.otlp_http,
        otlp_grpc=arguments.otlp_grpc,
        behind_proxy=arguments.behind_proxy,
    )
    return serve(options, log_level=arguments.log_level, log_json=arguments.log_json)


def _demo(parser: argparse.ArgumentParser) -> None:
    from warroom.demo.run import add_arguments, run_demo  # noqa: PLC0415

    add_arguments(parser)
    parser.set_defaults(run=run_demo)


def _run_check(arguments: argparse.Namespace) -> int:
    from warroom.check import check  # noqa: PLC0415

    return check(Options(config=arguments.config), print, reach=not arguments.offline)


def _test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("rules",))
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file of rule tests")
    parser.set_defaults(run=_run_test)


def _run_test(arguments: argparse.Namespace) -> int:
    from warroom.rule_tests import run_rule_test_files  # noqa: PLC0415

    return run_rule_test_files(arguments.files, print)


def _run_warm_up(_arguments: argparse.Namespace) -> int:
    from warroom.warm_up import compile_kernels  # noqa: PLC0415

    compile_kernels(print)
    return 0


def _ask(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    query = commands.add_parser("query", help="ask the running service a PromQL question")
    query.add_argument("expr")
    query.add_argument("--time", default="", help="instant (default now)")
    query.set_defaults(run=lambda a: client.query(a.url, a.token, a.expr, a.time, print))
    slo = commands.add_parser("slo", help="list the SLOs of the running service")
    slo.set_defaults(run=lambda a: client.slos(a.url, a.token, print))
    findings = commands.add_parser("findings", help="list, show and settle what was found")
    findings_command.add_findings_arguments(findings)
    findings.set_defaults(run=lambda a: findings_command.findings(a, print))
    compare = commands.add_parser("compare", help="compare a route before and after")
    findings_command.add_compare_arguments(compare)
    compare.set_defaults(run=lambda a: findings_command.compare(a, print))
    silence = commands.add_parser("silence", help="silence alerts that match")
    silence.add_argument("matchers", nargs="+", help="such as alertname=OrderRateDrop")
    silence.add_argument("--for", dest="duration", default="1h", help="how long (default 1h)")
    silence.add_argument("--comment", required=True)
    silence.add_argument("--by", default="warroom silence")
    silence.set_defaults(run=_run_silence)
    for parser in (query, slo, findings, compare, silence):
        parser.add_argument("--url", default=_DEFAULT_URL, help=f"the service ({_DEFAULT_URL})")
        parser.add_argument("--token", default="", help="or WARROOM_TOKEN in the environment")


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the name of a poller of type mysql")
    parser.add_argument("--config", help="warroom.yaml")
    parser.add_argument("--limit", type=int, default=5, help="how many (default 5, at most 10)")
    parser.set_defaults(run=_run_explain)


def _run_explain(arguments: argparse.Namespace) -> int:
    from warroom.explain import explain  # noqa: PLC0415

    return explain(Options(config=arguments.config), arguments.name, arguments.limit, print)


def _run_silence(arguments: argparse.Namespace) -> int:
    request = client.SilenceRequest(
        matchers=tuple(arguments.matchers),
        duration=arguments.duration,
        comment=arguments.comment,
        created_by=arguments.by,
    )
    return client.silence(arguments.url, arguments.token, request, print)


def _drill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("labels", nargs="*", help="choose the route, such as severity=page")
    parser.add_argument("--url", default=_DEFAULT_URL, help=f"the service ({_DEFAULT_URL})")
    parser.add_argument("--token", default="", help="or WARROOM_TOKEN in the environment")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait (60)")
    parser.set_defaults(run=_run_drill)


def _run_drill(arguments: argparse.Namespace) -> int:
    from warroom.drill import DrillCommand, drill  # noqa: PLC0415

    command = DrillCommand(
        arguments.url, arguments.token, tuple(arguments.labels), arguments.timeout
    )
    return drill(command, print)


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("alerts",))
    parser.add_argument("--from", dest="since", default="", help="such as now-7d (the default)")
    parser.add_argument("--to", dest="until", default="", help="default now")
    parser.add_argument("--url", default=_DEFAULT_URL, help=f"the service ({_DEFAULT_URL})")
    parser.add_argument("--token", default="", help="or WARROOM_TOKEN in the environment")
    parser.set_defaults(run=_run_report)


def _run_report(arguments: argparse.Namespace) -> int:
    from warroom.alert_report import report  # noqa: PLC0415

    return report(arguments.url, arguments.token, arguments.since, arguments.until, print)


def _token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("create", "list", "revoke"))
    parser.add_argument("name", nargs="?", default="", help="a name (create) or an id (revoke)")
    parser.add_argument(
        "--role", default="viewer", choices=("viewer", "display", "calendar", "ingest", "admin")
    )
    parser.add_argument("--days", type=int, default=0, help="days until it expires (0: never)")
    parser.add_argument("--config")
    parser.add_argument("--data-dir")
    parser.set_defaults(run=_run_token)


def _board(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("import",))
    parser.add_argument("file", metavar="FILE", help="dashboard JSON as Grafana exports it")
    parser.add_argument("--name", default="", help="the board's name (default: of its title)")
    parser.add_argument("--out", default="", help="write the YAML here (default: print it)")
    parser.add_argument("--save", action="store_true", help="save it in the running service")
    parser.add_argument("--url", default=_DEFAULT_URL, help=f"the service ({_DEFAULT_URL})")
    parser.add_argument("--token", default="", help="or WARROOM_TOKEN in the environment")
    parser.set_defaults(run=_run_board)


def _loadtest(parser: argparse.ArgumentParser) -> None:
    from warroom.loadtest_import import add_arguments, import_load_test  # noqa: PLC0415

    add_arguments(parser, _DEFAULT_URL)
    parser.set_defaults(run=lambda arguments: import_load_test(arguments, print))


def _run_board(arguments: argparse.Namespace) -> int:
    from warroom.board_import import import_board  # noqa: PLC0415  # other commands do without it

    def warn(line: str) -> None:
        print(line, file=sys.stderr)

    return import_board(arguments, print, warn)


def _backups(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from warroom.backup_arguments import add_backup_arguments, add_restore_arguments  # noqa: PLC0415

    add_backup_arguments(
        commands.add_parser("backup", help="copy a service's data, running or not")
    )
    add_restore_arguments(commands.add_parser("restore", help="make a data directory of a backup"))


def _backtest(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from warroom.backtest_arguments import add_backtest_arguments  # noqa: PLC0415

    add_backtest_arguments(
        commands.add_parser("backtest", help="run rules and detectors over stored history")
    )


def _run_token(arguments: argparse.Namespace) -> int:
    from warroom.tokens import run  # noqa: PLC0415

    options = Options(config=arguments.config, data_dir=arguments.data_dir)
    return run(options, arguments, print)


if __name__ == "__main__":
    sys.exit(main())
