"""Nothing in the repository is about the machine or the tools that it was written with."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).resolve()
# Homes and workspaces. A path in an address (https://x/home/) or in a route is not one.
MACHINE_PATH = re.compile(r"(?<![\w./:}>~-])/(?:work|root|home/\w+|Users/\w+)/[\w.]")
PUBLIC = {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org"}
# SHA-256 of words, lower case, so that this file does not hold them.
UNWANTED = {
    "c857d09db23e6822e3600bc06ad8d58f92ed62bc8efd81c753f77048662cb97d",
    "c70eca6b0f88f44d81a41311647e50fda1ac454ec04ffd442b0eb4743a993131",
    "7d3194f79e645c42e4396dda38be04766810ec6a00d00aced3ffc2a0a1f1a9ef",
    "60965168ce762e949600281ba6d01fee136e5b6e8257b1f216f9025ed324474c",
    "3ea125d0bff386e6754b3782b300016fc79a9cf8f8669c0a5c3db64467ddb681",
    "57de4cf40144bdf7d00010f2f5557a7d642c2b9705309bfade167dd313e2ca93",
}
WORD = re.compile(r"[a-z]{5,20}")


def tracked() -> list[Path]:
    git = shutil.which("git")
    listed = (
        subprocess.run(
            [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=False,
            text=True,
        )
        if git
        else None
    )
    if listed is None or listed.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("git ls-files does not work, and under CI it must")
        pytest.skip("needs git and a checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and path.resolve() != HERE]


def lines() -> Iterator[tuple[str, str]]:
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content[:8_000]:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            yield f"{path.relative_to(ROOT)}:{number}", line


@pytest.fixture(scope="module")
def text() -> list[tuple[str, str]]:
    return list(lines())


def own_paths() -> set[str]:
    """This machine's own: the checkout and the home."""
    paths = {ROOT, Path.home()}
    return {str(path) for path in paths if len(path.parts) > 2}


def registries() -> set[str]:
    """Hosts that this machine's package clients are told to use."""
    names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX",
             "NPM_CONFIG_REGISTRY", "npm_config_registry", "GOPROXY")  # fmt: skip
    told = " ".join(os.environ.get(name, "") for name in names)
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, check=False, text=True
    )
    found = re.findall(r"https?://[^\s'\",]+", f"{told} {listed.stdout}")
    return {urlsplit(url).hostname or "" for url in found} - PUBLIC - {""}


def test_no_file_names_a_path_of_a_machine(text: list[tuple[str, str]]) -> None:
    mine = own_paths()
    found = [
        f"{place}: {line.strip()[:120]}"
        for place, line in text
        if MACHINE_PATH.search(line) or any(path in line for path in mine)
    ]
    assert found == []


def test_no_file_names_a_registry_of_a_machine(text: list[tuple[str, str]]) -> None:
    hosts = registries()
    found = [
        place
        for place, line in text
        if any(host in line for host in hosts) or re.search(r"--(extra-)?index-url +\S+://", line)
    ]
    assert found == []


def test_lock_files_name_no_host() -> None:
    locks = [*(ROOT / "requirements").glob("*.txt"), ROOT / "dashboards/web/package-lock.json"]
    for lock in locks:
        told = re.findall(r'"resolved": *"([^"]+)"', lock.read_text(encoding="utf-8"))
        assert {urlsplit(url).hostname for url in told} <= PUBLIC, lock


def test_no_file_names_the_tools_it_was_written_with(text: list[tuple[str, str]]) -> None:
    known: dict[str, bool] = {}
    found = []
    for place, line in text:
        for word in WORD.findall(line.lower()):
            if word not in known:
                known[word] = hashlib.sha256(word.encode()).hexdigest() in UNWANTED
            if known[word]:
                found.append(place)
    assert found == []


@pytest.mark.parametrize(
    "line", ["see /work/x", 'open("/root/notes")', "in /home/anna/shop", "`/Users/anna/x`"]
)
def test_a_path_of_a_machine_would_be_noticed(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line", ["https://x/home/anna/", "GET /api/work/x", "rework/x", "~/work/x"]
)
def test_what_only_looks_like_one_is_left_alone(line: str) -> None:
    assert not MACHINE_PATH.search(line)
