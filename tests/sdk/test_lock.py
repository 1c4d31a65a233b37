"""The lock of the npm SDKs holds on any registry."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
LOCK = json.loads(FOLDER.joinpath("package-lock.json").read_bytes())
WANTED = json.loads(FOLDER.joinpath("package.json").read_bytes())["dependencies"]


def test_every_package_is_pinned_by_its_hash_and_none_by_a_host():
    packages = {path: package for path, package in LOCK["packages"].items() if path}
    assert [path for path, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    assert [path for path, package in packages.items() if "resolved" in package] == []
    assert "omit-lockfile-registry-resolved=true" in FOLDER.joinpath(".npmrc").read_text().splitlines()


def test_the_lock_is_of_the_versions_that_are_asked_for():
    assert {name: LOCK["packages"][f"node_modules/{name}"]["version"] for name in WANTED} == WANTED
