"""A cluster for PostgreSQL where an environment has the configuration of the host's, but not its data.

The host's cluster belongs to its user postgres, so nobody else can read it: it is an empty directory in an environment,
and no PostgreSQL starts in that. The same goes for the rules of who may connect, and for the key of its certificate.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess

from sysenv_ns.within.units import OrderError, Unit

_UNIT = re.compile(r"postgresql@([0-9.]+)-(.+)\.service")
_KEY = "/etc/ssl/private/ssl-cert-snakeoil.key"


def make_cluster(unit: Unit) -> None:
    """Make the cluster that a unit of postgresql-common stands for, if its directory is empty. Raises OrderError."""
    found = _UNIT.fullmatch(unit.name)
    if found is None:
        return
    version, cluster = found[1], found[2]
    configuration = f"/etc/postgresql/{version}/{cluster}"
    directory = _setting(f"{configuration}/postgresql.conf", "data_directory")
    program = f"/usr/lib/postgresql/{version}/bin/initdb"
    if directory is None or not os.path.isfile(program) or not _is_empty(directory):
        return
    if os.path.isfile(_KEY) and os.path.getsize(_KEY) == 0 and os.path.isfile("/usr/sbin/make-ssl-cert"):
        _run(["/usr/sbin/make-ssl-cert", "generate-default-snakeoil", "--force-overwrite"], unit)
    owner = pwd.getpwnam("postgres")
    os.chown(directory, owner.pw_uid, owner.pw_gid)
    os.chmod(directory, 0o700)
    locale = _setting(f"{configuration}/postgresql.conf", "lc_messages") or "C.UTF-8"
    options = ["-D", directory, "--auth-local", "peer", "--auth-host", "scram-sha-256", "--locale", locale]
    # As a program, not by setuid(2) here: in the single map it finds out itself that it is root, and says so.
    _run(["runuser", "-u", "postgres", "--", program, *options], unit)
    os.unlink(f"{directory}/postgresql.conf")  # the one in /etc is read, and those whose content could not be
    for name in ("pg_hba.conf", "pg_ident.conf"):
        if os.path.exists(target := f"{configuration}/{name}") and os.path.getsize(target) == 0:
            shutil.copyfile(f"{directory}/{name}", target)
        os.unlink(f"{directory}/{name}")


def _setting(file: str, key: str) -> str | None:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            found = re.findall(rf"^\s*{key}\s*=\s*'([^']*)'", stream.read(), re.MULTILINE)
    except OSError:
        return None
    return found[-1] if found else None


def _is_empty(directory: str) -> bool:
    try:
        return not os.listdir(directory)
    except OSError:
        return False


def _run(command: list[str], unit: Unit) -> None:
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if result.returncode:
        lines = result.stdout.decode("utf-8", "replace").strip().splitlines() or [f"status {result.returncode}"]
        raise OrderError(
            f"{unit.name}: the host's cluster cannot be read, and a new one cannot be made: {lines[0]}",
            "PostgreSQL needs the user postgres: use an environment with --id-map full"
            if any("root" in line for line in lines)
            else "",
        )
