"""What is built: generated code, the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from tree import GENERATED, PACKAGE, ROOT, files, name

BIN = Path(sys.executable).parent
"""Where the environment's programs are, should nobody have put it into PATH."""

TIMEOUT_S = 100


def run(*command: object, **options: object) -> None:
    """Run a program of the environment; fail with what it says."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_code_is_that_of_the_protos(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools")
    run(sys.executable, ROOT / "protos" / "generate.py", tmp_path)
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "samplecache" / "v1").iterdir()}
    kept = {path.name: path.read_bytes() for path in GENERATED.glob("*_pb2*")}
    assert sorted(fresh) == sorted(kept)
    assert [file for file in fresh if fresh[file] != kept[file]] == [], "run: make generate"


def test_every_element_of_the_contract_is_commented() -> None:
    buf = shutil.which("buf", path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    if buf is None:
        pytest.skip("needs buf")
    run(buf, "lint")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy so that nothing is left in the tree."""
    pytest.importorskip("hatchling", reason="needs hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    for path in files():
        copy = folder / "source" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--disable-pip-version-check", "--wheel-dir", folder, folder / "source"),
    )
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_has_the_core_the_plugins_and_the_player(wheel: zipfile.ZipFile) -> None:
    packed = set(wheel.namelist())
    expected = {name(path) for path in files() if path.is_relative_to(PACKAGE)}
    for folder, package in [
        ("plugins", package.parent.name) for package in (ROOT / "plugins").glob("*/__init__.py")
    ] + [("demo", "samplecache_player")]:
        expected |= {
            str(path.relative_to(ROOT / folder)) for path in files() if path.is_relative_to(ROOT / folder / package)
        }
    assert {file for file in packed if ".dist-info/" not in file} == expected
    assert "samplecache/py.typed" in packed


def test_the_wheel_says_what_pyproject_says(wheel: zipfile.ZipFile) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (info,) = {file.split("/")[0] for file in wheel.namelist() if ".dist-info/" in file}
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert (metadata["Name"], metadata["Version"]) == ("samplecache", project["version"])
    assert metadata["License-Expression"] == "MIT"
    entries = wheel.read(f"{info}/entry_points.txt").decode()
    for group, declared in [("console_scripts", project["scripts"]), *project["entry-points"].items()]:
        assert f"[{group}]" in entries
        for key, target in declared.items():
            assert f"{key} = {target}" in entries
    assert any(file.endswith("LICENSE") for file in wheel.namelist())


def test_the_version_is_said_once() -> None:
    import samplecache

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert samplecache.__version__ == project["version"]
