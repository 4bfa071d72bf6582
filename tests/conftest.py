"""Shared by all tests: where the golden data lies, and Debian packages that a test needs."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

COMMANDS = {
    "asterisk-core-sounds-en": None,
    "baresip": "baresip",
    "chromium": "chromium",
    "coturn": "turnserver",
    "espeak-ng": "espeak-ng",
    "flite": "flite",
    "kamailio": "kamailio",
    "kamailio-tls-modules": None,
    "prometheus": "promtool",
    "redis-server": "redis-server",
    "sip-tester": "sipp",
    "sipsak": "sipsak",
}

INSTALLING = Path(tempfile.gettempdir(), "trunkline-apt.lock")


def pytest_configure() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and processes begun here would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Tiny checkpoints in the released layouts with reference outputs; see its README."""
    return Path(os.environ.get("GOLDEN_DIR", Path(__file__).parent / "golden"))


def _is_there(package: str) -> bool:
    command = COMMANDS[package]
    if command is not None:
        return shutil.which(command) is not None
    status = subprocess.run(["dpkg-query", "-W", "-f=${Status}", package], capture_output=True, text=True, check=False)
    return "install ok installed" in status.stdout


@pytest.fixture(scope="session")
def require_debian() -> Callable[..., None]:
    """`require_debian("baresip")`: installs Debian packages when root, else skips and says what is missing."""

    def missing(packages: tuple[str, ...]) -> list[str]:
        return [package for package in packages if not _is_there(package)]

    def installed(packages: tuple[str, ...]) -> str:
        """Installs them; the error, if there is one."""
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        with open(INSTALLING, "w") as lock:  # tests that share the cores would install at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            names = missing(packages)
            for arguments in (["update"], ["install", "-y", "-q", "--no-install-recommends", *names]) if names else ():
                done = subprocess.run(
                    ["apt-get", *arguments], capture_output=True, text=True, check=False, env=environment
                )
        return "" if not names or done.returncode == 0 else done.stderr.strip()[-300:]

    def require(*packages: str) -> None:
        names = " ".join(missing(packages))
        if not names:
            return
        if os.geteuid() == 0 and shutil.which("apt-get"):
            error = installed(packages)
            if not error:
                return
            reason = f"apt-get install {names} failed: {error}"
        else:
            reason = f"needs the Debian packages {names}: apt-get install {names}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return require
