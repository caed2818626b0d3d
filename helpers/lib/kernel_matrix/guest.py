"""Runs in the guest as process 1: makes a system of it, does what plan.json says, leaves the results on /dev/vdb.

It imports nothing of the project: what is tested is installed and run as a user does it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import stat
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

CHECKOUT = Path("/srv/checkout")
TOOL = str(CHECKOUT / "helpers" / "sysenv-ns")
RESULTS = Path("/run/results")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# ann has subordinate ids; carol may use sudo.
USERS = {"full": "ann", "single": "ann", "sudo": "carol", "root": "root"}
MOUNTS = (
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("securityfs", "/sys/kernel/security", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("tmpfs", "/run", "mode=755"),
    ("tmpfs", "/tmp", "mode=1777"),
)
RESTRICTION = "kernel.apparmor_restrict_unprivileged_userns"  # of Ubuntu's kernels
LAUNCHER = "sysenv-ns host prepare --launcher"
# What a host's policy can be set to, and the remedy that the doctor has to print for it.
POLICIES = (
    ("user.max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces="),
    ("kernel.unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    (RESTRICTION, "1", LAUNCHER),
)

HOST_CHANGED = -1  # in the place of pytest's status

Result = dict[str, Any]
Cell = tuple[str, str]  # driver, and how ids are mapped: full, single, or by real root: root, sudo


def run(*command: str, user: str = "root", limit: float = 600, output: int | None = subprocess.PIPE) -> tuple[int, str]:
    """Status and output of a command, as after logging in; 124 when it took too long."""
    home = "/root" if user == "root" else f"/home/{user}"
    variables = {"HOME": home, "USER": user, "LOGNAME": user, "PATH": PATH, "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
    # For the tests: all users may read this checkout, and the machine may be an emulated one.
    variables |= {"SYSENV_IN_PLACE": "1", "SYSENV_SLOWNESS": "5"}
    become = [] if user == "root" else ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
    streams: Any = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
    try:
        done = subprocess.run([*become, *command], **streams, cwd=home, env=variables, timeout=limit, check=False)
    except subprocess.TimeoutExpired as expired:
        return 124, (expired.stdout or b"").decode(errors="replace")
    return done.returncode, (done.stdout or b"").decode(errors="replace")


def say(text: str) -> None:
    """A line on the console."""
    print(f"matrix: {text}", flush=True)


def must(*command: str) -> None:
    """Run a command that has to succeed."""
    code, output = run(*command)
    if code != 0:
        raise RuntimeError(f"{command}: status {code}\n{output}")


def prepare() -> None:
    """What a boot does, as far as the tests notice."""
    for fstype, point, options in MOUNTS:
        Path(point).mkdir(exist_ok=True)
        with contextlib.suppress(subprocess.CalledProcessError):  # a kernel may come without securityfs
            subprocess.run(["mount", "-t", fstype, "-o", options or "defaults", fstype, point], check=True)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(FileExistsError):
            Path("/dev", name).symlink_to(target)
    Path("/run/lock").mkdir(mode=0o1777)
    RESULTS.mkdir(mode=0o700)
    os.chmod("/dev/fuse", 0o666)  # as udev has it
    if _setting(RESTRICTION).exists():
        profile = Path("/etc/apparmor.d/unprivileged_userns")
        profile.write_text(profile.read_text().replace(" flags=(complain)", ""))  # Ubuntu's is not Debian's in this
        must("apparmor_parser", "-r", str(profile))
        _setting(RESTRICTION).write_text("0")  # only where it is tried
    must("ip", "link", "set", "lo", "up")
    must("hostname", "kernel-matrix")


def make_users() -> None:
    """Those who use the tool; and the tool itself, set up by root for all."""
    for name in ("ann", "carol"):
        must("useradd", "--create-home", "--shell", "/bin/bash", name)
    Path("/etc/sudoers.d/carol").write_text("carol ALL=(ALL:ALL) NOPASSWD: ALL\n")
    os.chmod("/etc/sudoers.d/carol", 0o440)
    must("chmod", "-R", "u=rwX,go=rX", str(CHECKOUT))
    must(TOOL, "--version")
    must(str(CHECKOUT / ".venv/bin/python"), "-m", "compileall", "-q", str(CHECKOUT / "sysenv_ns"))


def try_cells(plan: Result) -> list[Result]:
    """What the tests say of each way to make environments; those that need not work are tried before."""
    results: list[Result] = []
    sessions: dict[str, dict[str, Cell]] = {}
    for driver, identity, has_to_work in plan["cells"]:
        sentence = None if has_to_work else refusal(driver, identity)
        if sentence is None:
            option, mode = session_of(driver, identity)
            sessions.setdefault(option, {})[mode] = (driver, identity)
        else:
            results.append({"driver": driver, "identity": identity, "status": "refused", "detail": sentence})
    for option, modes in sessions.items():
        results += test(option, modes, plan["tests"], plan["limit"])
    return results


def session_of(driver: str, identity: str) -> tuple[str, str]:
    """The tests' option --driver and the mode that a cell is for them; some drivers are modes beside the default."""
    if driver in ("fuse", "idmap"):
        return "stub", driver
    return ("stub", identity) if driver == "root" else (driver, identity)


def test(option: str, modes: dict[str, Cell], tests: list[str], limit: float) -> list[Result]:
    """One session of the integration tests, in several modes."""
    report = RESULTS / f"{option}.xml"
    command = ["/opt/tests/bin/python", "-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(CHECKOUT), "-c", str(CHECKOUT / "pyproject.toml"), "-o", "pythonpath=. helpers/lib"]
    command += ["--junitxml", str(report), "--durations=0"]
    command += ["-k", " or ".join(f"[{mode} or -{mode}]" for mode in modes)]
    command += ["--driver", option, *(str(CHECKOUT / test) for test in tests)]
    say(f"testing with --driver {option}: {', '.join(modes)}")
    code, _ = run(*command, limit=limit * len(modes), output=None)  # goes to the console as it comes
    say(f"pytest ended with status {code}")
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    if code == 1 and not named(cases, "failure", "error"):
        code = HOST_CHANGED
        say(run("find", "/var/lib", "/usr", "/etc", "-xdev", "-cmin", "-5", "-ls")[1])
    return [
        {"driver": driver, "identity": identity, **verdict(code, [case for case in cases if is_of(mode, case)])}
        for mode, (driver, identity) in modes.items()
    ]


def is_of(mode: str, case: ElementTree.Element) -> bool:
    """Whether a test was run in a mode."""
    parameters = re.search(r"\[(.*)\]", case.get("name", ""))
    return parameters is not None and mode in parameters[1].split("-")


def verdict(code: int, cases: list[ElementTree.Element]) -> Result:
    """What the tests of one mode say. Status 1 of pytest is a failed test, of any mode."""
    failed, skipped = named(cases, "failure", "error"), named(cases, "skipped")
    run_through = len(cases) - len(failed) - len(skipped)
    if code == HOST_CHANGED:
        return {"status": "failed", "detail": "the tests have changed the system (see the log)", "tests": run_through}
    if code not in (0, 1):
        return {"status": "failed", "detail": f"pytest ended with status {code}", "tests": run_through}
    if failed or not run_through:
        detail = f"{len(failed)} of {len(cases)} tests failed, {len(skipped)} were skipped: {', '.join(failed)}"
        return {"status": "failed", "detail": detail, "tests": run_through}
    return {"status": "passed", "detail": "", "tests": run_through}


def named(cases: list[ElementTree.Element], *outcomes: str) -> list[str]:
    """The names of the tests with one of these outcomes."""
    return [case.get("name", "?") for case in cases if any(case.find(outcome) is not None for outcome in outcomes)]


def refusal(driver: str, identity: str) -> str | None:
    """What the tool says when it cannot make or start an environment, else None."""
    id_map = ["--id-map", identity] if identity in ("full", "single") else []
    user = USERS[identity]
    if driver == "idmap":
        code, output = run(TOOL, "host", "prepare", "--user", user)
        if code != 0:
            return explanation(output)
    code, output = run(TOOL, "create", "probe", "--driver", driver, *id_map, user=user)
    if code == 0:
        code, output = run(TOOL, "exec", "probe", "--", "touch", "/usr/probe", user=user)
        run(TOOL, "remove", "--purge", "probe", user=user)
    return None if code == 0 else explanation(output)


def explanation(output: str) -> str:
    """What the tool says first, and its hint."""
    said = re.search(r"^sysenv-ns: (.*)(?:\nhint: (.*))?", output, re.MULTILINE)
    return ": ".join(filter(None, said.groups())) if said else f"no sentence of the tool: {output[-500:]}"


def _setting(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def try_policy(name: str, value: str, remedy: str) -> Result:
    """What the doctor says to a user while a setting forbids namespaces, and whether its remedy helps."""
    setting = _setting(name)
    result: Result = {"policy": f"{name}={value}", "status": "absent", "detail": ""}
    if not setting.exists():
        return result
    usual = setting.read_text()
    doctor = partial(run, TOOL, "doctor", user="ann")
    before = doctor()
    setting.write_text(value)
    code, output = doctor()
    honest = code == 1 or (code == 0 and refusal("auto", "full") is None)  # what it promises, it has to keep
    found = re.search(rf"\b{re.escape(remedy)}.*", output)
    if found:
        run("bash", "-c", f'sudo() {{ "$@"; }}; sysenv-ns() {{ "{TOOL}" "$@" --user ann; }}; {found[0]}')
    after = doctor()
    wrong = faults_of_launcher() if remedy == LAUNCHER else []
    setting.write_text(usual)
    (RESULTS / f"{name}.log").write_text(f"before:\n{before[1]}\nwith {value}:\n{output}\nafter:\n{after[1]}\n{wrong}")
    proven = before[0] == 0 and honest and remedy in output and after[0] == 0 and not wrong
    detail = found[0] if found else f"no remedy, status {code}"
    if wrong:
        detail += f" ({'; '.join(wrong)})"
    if found and not proven:
        detail += f" (doctor: {before[0]} before, {code} under it, {after[0]} after the remedy)"
    status = "failed" if not proven else "proven" if code else "needless"
    return {**result, "status": status, "detail": detail}


def faults_of_launcher() -> list[str]:
    """What is not as it should be with launchers, while AppArmor restricts all others: ann has one, carol makes one."""
    anns, carols = (f"/usr/local/lib/sysenv-ns/{pwd.getpwnam(name).pw_uid}/sysenv-ns" for name in ("ann", "carol"))
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "true")
    unshare = "import os; os.unshare(os.CLONE_NEWUSER); os.unshare(os.CLONE_NEWNS)"
    change = f"echo >> {carols} || rm -f {carols} || mv {carols} {carols}2"
    expected = (
        ("a user with sudo has one made", True, "carol", (TOOL, "host", "prepare")),
        ("and again, which is by way of it", True, "carol", (TOOL, "host", "prepare")),
        ("a plain call makes an environment", True, "carol", (TOOL, "create", "--driver", "idmap", "launched")),
        ("namespaces can be made in it", True, "carol", (TOOL, "exec", "--me", "launched", "--", *namespace)),
        ("another program of its user stays restricted", False, "carol", namespace),
        ("another script of the same Python does", False, "carol", (str(CHECKOUT / ".venv/bin/python"), "-c", unshare)),
        ("its user cannot change it", False, "carol", ("sh", "-c", change)),
        ("others cannot run it", False, "carol", (anns, "--version")),
        ("the environment can be removed", True, "carol", (TOOL, "remove", "--purge", "launched")),
        ("it can be taken away", True, "carol", (TOOL, "host", "release")),
        ("then it is gone", False, "carol", ("test", "-e", carols)),
        ("others keep theirs", True, "ann", (anns, "exec", "--create", "kept", "--", "true")),
        ("root takes away the last one", True, "root", (TOOL, "host", "release", "--user", "ann")),
        ("with the profile", False, "root", ("grep", "sysenv-ns", "/sys/kernel/security/apparmor/profiles")),
        ("then all are restricted again", False, "ann", namespace),
    )
    with sudo_of_mode(0o4755):
        outcomes = [(what, succeeds, *run(*command, user=user)) for what, succeeds, user, command in expected]
    left = [f"{anns} is left"] if Path(anns).parents[1].exists() else []
    return left + [f"{what}: {output[-300:]}" for what, succeeds, code, output in outcomes if (code == 0) != succeeds]


@contextlib.contextmanager
def sudo_of_mode(mode: int) -> Iterator[None]:
    """For a while."""
    sudo = Path("/usr/bin/sudo")
    usual = stat.S_IMODE(sudo.stat().st_mode)
    sudo.chmod(mode)
    try:
        yield
    finally:
        sudo.chmod(usual)


def measure(driver: str) -> list[Result]:
    """What environments cost a user with sudo."""
    must("apt-get", "-q", "update")
    command = ["env", f"PYTHONPATH={CHECKOUT}/helpers/lib", "python3", "-m", "kernel_matrix.costs", "carol", TOOL]
    _, output = run(*command, driver, limit=3600)
    print(output)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def fill(file_system: str) -> Result:
    """Copy this root to another disk with another file system."""
    Path("/mnt").mkdir(exist_ok=True)
    older = ("-i", "nrext64=0") if file_system == "xfs" else ()  # Linux 5.10 cannot mount what is made otherwise
    must(f"mkfs.{file_system}", "-q", *older, "/dev/vdc")
    must("mount", "-t", file_system, "/dev/vdc", "/mnt")
    must("cp", "-a", "--one-file-system", "/.", "/mnt")
    for _, point, _ in MOUNTS:
        if point.count("/") == 1:
            Path(f"/mnt{point}").mkdir(exist_ok=True)
    must("umount", "/mnt")
    return {"filled": file_system}


def carry_out(plan: Result) -> Result:
    """Everything that the plan asks for."""
    if plan["fill"]:
        return fill(plan["fill"])
    make_users()
    policies: list[Result] = []
    if plan["policies"]:
        with sudo_of_mode(0):  # with sudo an environment can be had whatever they are
            policies = [try_policy(*policy) for policy in POLICIES]
    costs = measure(plan["costs"]) if plan["costs"] else []
    return {"cells": try_cells(plan), "policies": policies, "costs": costs}


def report(plan: Result) -> None:
    """Carry it out and write what came of it, with the logs, as a tar archive to the second disk."""
    try:
        results = carry_out(plan)
    except Exception:
        results = {"error": traceback.format_exc()}
        print(results["error"])
    (RESULTS / "results.json").write_text(json.dumps(results))
    with tarfile.open("/dev/vdb", "w") as archive:
        archive.add(RESULTS, ".")


def main() -> None:
    """Process 1 reaps what others leave, as the tests look for processes that have gone; a child does the work."""
    os.environ["PATH"] = PATH
    prepare()
    plan = json.loads(Path("/srv/plan.json").read_text())
    worker = os.fork()
    if worker == 0:
        os.setsid()
        report(plan)
        sys.stdout.flush()
        os._exit(0)
    while os.wait()[0] != worker:
        pass
    subprocess.run(["sync"], check=True)
    subprocess.run(["mount", "-o", "remount,ro", "/"], check=False)
    Path("/proc/sysrq-trigger").write_text("o")
    time.sleep(60)


if __name__ == "__main__":
    main()
