"""Every module of edgec can be imported where a system lacks what others have."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
sys.modules["fcntl"] = None  # as on Windows
import importlib, pkgutil
import edgec
names = [m.name for m in pkgutil.walk_packages(edgec.__path__, "edgec.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


@pytest.mark.slow
def test_edgec_imports_without_the_locks_of_unix() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150
