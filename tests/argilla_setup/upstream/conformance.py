"""Runs Argilla's own tests of its search engine against ours: `make engine-conformance`.

They are part of argilla-server's source distribution and stay out of this repository: the first run downloads it, and
the packages that the tests want, into a folder of the user's cache. differences.txt names the tests that cannot pass,
each with its reason; a failure that is not named there, or a named one that passes, is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from argilla_setup import environment

VERSION = "2.8.0"
PACKAGES = ["pytest>=7.4.4,<8", "pytest-asyncio~=0.21.1", "factory-boy~=3.2.1"]
TESTS = "tests/unit/search_engine"
LEFT_OUT = "not test_annotator_limits_increasing_default_fields_limit"
"""Makes seven thousand users, which takes longer than all the rest, to read an Elasticsearch mapping."""
TAKEN = ("tests/__init__.py", "tests/database.py", "tests/factories.py", "tests/unit/__init__.py")
HERE = Path(__file__).parent
CODE = HERE.parents[2]


def folder() -> Path:
    """Where the download is kept: `$LINGO_HITL_CACHE`, else `lingo-hitl` in the user's cache folder."""
    cache = os.environ.get("LINGO_HITL_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(cache) if cache else home / "lingo-hitl") / f"argilla-server-{VERSION}-tests"


def is_there() -> bool:
    return (folder() / "complete").is_file()


def fetch() -> None:
    """Download the tests and what they want; a minute, once."""
    python = str(environment.python_of(environment.location()))
    shutil.rmtree(folder(), ignore_errors=True)
    folder().mkdir(parents=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = ["--no-deps", "--no-binary", "argilla-server", f"argilla-server=={VERSION}"]
    subprocess.run([*pip, "download", "-d", str(folder()), *source], check=True)
    subprocess.run([*pip, "install", "--target", str(folder() / "packages"), *PACKAGES], check=True)
    archive = next(folder().glob("argilla_server-*.tar.gz"))
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = member.name.partition("/")[2]
            if name in TAKEN or (name.startswith(TESTS) and name.endswith(".py") and not name.endswith("conftest.py")):
                member.name = name
                tar.extract(member, folder(), filter="data")
    archive.unlink()
    (folder() / "complete").touch()


def outcomes() -> dict[str, str]:
    """Run the tests; the first line of what went wrong by test, empty where it passed."""
    with tempfile.TemporaryDirectory(prefix="lh-tests-") as place:
        work, report = Path(place), Path(place) / "report.xml"
        shutil.copytree(folder() / "tests", work / "tests")
        shutil.copy(HERE / "engine_conftest.py", work / "tests" / "conftest.py")
        command = [environment.python_of(environment.location()), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-c", os.devnull, f"--rootdir={work}", f"--junitxml={report}", "-k", LEFT_OUT, TESTS]
        ran = subprocess.run(
            [str(part) for part in command], cwd=work, env=_variables(work), capture_output=True, text=True, check=False
        )
        if not report.exists():
            sys.exit(f"the tests could not be run:\n{ran.stdout}\n{ran.stderr}")
        cases = ElementTree.parse(report).getroot().iter("testcase")
        return {str(case.get("name")): fault for case in cases if (fault := _fault(case)) is not None}


def differences() -> dict[str, str]:
    """The reason by test, of those that are known not to pass; a name without brackets stands for all its cases."""
    lines = (HERE / "differences.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition(": ") for line in lines if line and not line.startswith("#")]
    return {name: reason for name, _, reason in pairs}


def surprises(found: Mapping[str, str]) -> list[str]:
    """What the list of differences does not say."""
    known = differences()
    failed = {name: fault for name, fault in found.items() if fault}
    told = [f"{name}: {fault}" for name, fault in failed.items() if not {name, _bare(name)} & known.keys()]
    names = failed.keys() | {_bare(name) for name in failed}
    return told + [f"{name} is listed in differences.txt and passes" for name in known if name not in names]


def main() -> int:
    if not is_there():
        environment.ensure(log=folder().parent / "server-environment.log", say=print)
        print(f"Downloading Argilla's own tests to {folder()}, once.")
        fetch()
    found = outcomes()
    failed = sum(bool(fault) for fault in found.values())
    print(f"{len(found) - failed} of {len(found)} tests pass; {failed} differ")
    for surprise in surprises(found):
        print(surprise)
    return 1 if surprises(found) else 0


def _variables(work: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ARGILLA_", "PYTEST"))}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(map(str, (work, CODE, folder() / "packages"))),
        "ARGILLA_HOME_PATH": str(work),
        "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{work}/argilla.db?check_same_thread=False",
        # The tests skip themselves for any other engine; what they get is ours.
        "ARGILLA_SEARCH_ENGINE": "elasticsearch",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _fault(case: ElementTree.Element) -> str | None:
    """None for a skipped one, which is for another engine."""
    if case.find("skipped") is not None:
        return None
    found = [part for kind in ("failure", "error") if (part := case.find(kind)) is not None]
    return str(found[0].get("message")).splitlines()[0][:200] if found else ""


def _bare(name: str) -> str:
    return re.sub(r"\[.*", "", name)


if __name__ == "__main__":
    sys.exit(main())
