"""What an installation takes: versions without known vulnerabilities, files by their hashes, no host of anybody's."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-uv.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of a lock file."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
    requirements = [(Requirement(entry.split("\\")[0]), entry) for entry in entries]
    return {
        found.name: (str(found.specifier).removeprefix("=="), re.findall(r"--hash=sha256:[0-9a-f]{64}", entry))
        for found, entry in requirements
    }


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_hold_hashes_and_no_address(name: str) -> None:
    assert "://" not in (ROOT / name).read_text()
    assert all(hashes for _, hashes in locked(name).values())


def test_locked_versions_are_within_the_bounds() -> None:
    versions = locked("requirements.lock")
    for line in PROJECT["dependencies"]:
        required = Requirement(line)
        assert required.specifier.contains(versions[required.name][0]), line


@pytest.mark.parametrize(
    ("package", "vulnerable"),
    [
        ("torch", "2.9.1"),
        ("onnx", "1.20.1"),
        ("pillow", "12.2.0"),
        ("filelock", "3.20.2"),
        ("pytorch-lightning", "2.6.3"),
    ],
)
def test_bounds_exclude_versions_with_known_vulnerabilities(package: str, vulnerable: str) -> None:
    bounds = {found.name: found.specifier for found in map(Requirement, PROJECT["dependencies"])}
    assert not bounds[package].contains(Version(vulnerable))


def test_licences_are_part_of_the_package() -> None:
    assert [name for name in PROJECT["license-files"] if not (ROOT / name).is_file()] == []
