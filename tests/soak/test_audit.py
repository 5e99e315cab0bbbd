"""Known vulnerabilities of what is installed, as pip-audit asks after them."""

import json
import subprocess
import sys

import pytest
from reliability import record


@pytest.mark.soak
def test_no_installed_package_has_a_known_vulnerability():
    options = ["--local", "--skip-editable", "--progress-spinner=off", "--format=json"]
    command = [sys.executable, "-m", "pip_audit", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert "No module named" not in done.stderr, done.stderr
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        pytest.skip(f"pip-audit has no network to its advisory service: {done.stderr.splitlines()[-1:]}")
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        pytest.skip(f"the advisory service knows none of {len(packages)} packages: it cannot be reached from here")
    found = {f"{package['name']} {package['version']}": package["vulns"] for package in asked if package["vulns"]}
    record("pip-audit", tried=len(asked), failed=len(found), what="installed packages; failed: a known vulnerability")
    assert not found
