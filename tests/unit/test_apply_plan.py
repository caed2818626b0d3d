"""What a plan of an apply tells of rights, what it warns of, and what root takes of plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sysenv_ns.apply import checks, metadata, plan, risks
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.plan import PackageStep, Plan, Step
from sysenv_ns.verbs import apply

FILE = Entry("file", 0o644, 0, 0, 3, 0, "digest")
DIRECTORY = Entry("directory", 0o755, 0, 0)
LINK = Entry("symlink", 0o777, 0, 0, target="/elsewhere")
FIFO = Entry("fifo", 0o644, 0, 0)
ROOT = ("root", "root")
CAPABLE = (("security.capability", "0100000280000000000000000000000000000000"),)  # cap_setuid=ep
KILLS = (("security.capability", "0100000220000000000000000000000000000000"),)  # cap_kill=ep


def _said(old: Entry | None, new: Entry, was: plan.Owner = ROOT, owner: plan.Owner = ROOT) -> list[str]:
    return list(metadata.differences(old, new, was, owner))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (None, FILE, []),
        (None, DIRECTORY, []),
        (None, LINK, []),
        (None, FIFO, []),
        (None, replace(FILE, mode=0o755), ["mode 0755"]),
        (None, replace(FILE, mode=0o666), ["mode 0666"]),
        (None, replace(FILE, mode=0o600), ["mode 0600"]),
        (None, replace(FILE, mode=0), ["mode 0000"]),
        (None, replace(DIRECTORY, mode=0o777), ["mode 0777"]),
        (None, replace(DIRECTORY, mode=0o644), ["mode 0644"]),
        (None, replace(DIRECTORY, mode=0o3777), ["mode 3777 (setgid, sticky)"]),
        (None, replace(FILE, mode=0o6755), ["mode 6755 (setuid, setgid)"]),
        (FILE, replace(FILE, mode=0o666), ["mode 0644 -> 0666"]),
        (FILE, replace(FILE, mode=0o666, digest="other"), ["mode 0644 -> 0666"]),
        (replace(FILE, mode=0o755), FILE, ["mode 0755 -> 0644"]),
        (replace(FILE, mode=0o4755), replace(FILE, mode=0o755), ["mode 4755 (setuid) -> 0755"]),
        (replace(FILE, mode=0o755), replace(FILE, mode=0o755), []),
        (replace(FILE, mode=0o4755), replace(FILE, mode=0o4755), ["mode 4755 (setuid)"]),
        (FILE, DIRECTORY, ["mode 0644 -> 0755"]),
        (LINK, FILE, []),
        (LINK, replace(FILE, mode=0o755), ["mode 0755"]),
        (replace(FILE, mode=0o600), LINK, []),
        (None, replace(FILE, attributes=CAPABLE), ["capabilities cap_setuid=ep"]),
        (FILE, replace(FILE, attributes=CAPABLE), ["capabilities cap_setuid=ep"]),
        (replace(FILE, attributes=CAPABLE), replace(FILE, attributes=CAPABLE), ["capabilities cap_setuid=ep"]),
        (replace(FILE, attributes=KILLS), replace(FILE, attributes=CAPABLE),
         ["capabilities cap_kill=ep -> cap_setuid=ep"]),
        (replace(FILE, attributes=CAPABLE), FILE, ["capabilities cap_setuid=ep -> none"]),
        (None, replace(FILE, attributes=(("security.capability", "00"),)), ["capabilities unknown (00)"]),
        (replace(FILE, attributes=(("user.a", "00"), ("user.b", "00"))),
         replace(FILE, attributes=(("user.b", "01"), ("user.c", "00"))),
         ["attribute user.a removed", "attribute user.b changed", "attribute user.c added"]),
    ],
)  # fmt: skip
def test_all_that_differs_is_told(old: Entry | None, new: Entry, said: list[str]) -> None:
    assert _said(old, new) == said


def test_owners_are_told() -> None:
    assert _said(FILE, FILE, ROOT, ("root", "adm")) == ["owner root:root -> root:adm"]
    assert _said(None, FILE, ROOT, ("games", "root")) == ["owner games:root"]
    step = Step("/a", "put", replace(FILE, uid=4711, gid=4711), FILE, "root", "", old_group="adm")
    assert (step.was, step.owner) == (("4711", "adm"), ("root", "adm"))
    assert Step("/a", "put", None, replace(FILE, uid=5)).owner == ROOT


def _warned(step: Step) -> list[str]:
    return [risk.why for risk in risks.of_plan(Plan("proj", (), (step,)))]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (None, FILE, ""),
        (None, replace(FILE, mode=0o755), ""),
        (None, replace(FILE, mode=0o666), "everybody can write to it"),
        (None, replace(FILE, mode=0o602), "everybody can write to it"),
        (None, replace(FILE, mode=0o664), ""),
        (FILE, replace(FILE, mode=0o666), "everybody can write to it"),
        (replace(FILE, mode=0o666), FILE, ""),
        (None, replace(DIRECTORY, mode=0o777), "everybody can put files into it and delete those of others"),
        (None, replace(DIRECTORY, mode=0o1777), ""),
        (None, replace(FILE, mode=0o1666), "everybody can write to it"),
        (DIRECTORY, replace(DIRECTORY, mode=0o777), "everybody can put files into it and delete those of others"),
        (replace(DIRECTORY, mode=0o1777), replace(DIRECTORY, mode=0o777),
         "everybody can put files into it and delete those of others"),
        (None, replace(FIFO, mode=0o622), "everybody can write to it"),
        (None, LINK, ""),
        (None, replace(FILE, mode=0o4755), "setuid: it runs as root, whoever starts it"),
        (None, replace(FILE, mode=0o2755), "setgid: it runs with the group root, whoever starts it"),
        (replace(FILE, mode=0o4755), replace(FILE, mode=0o4755, digest="new"),
         "setuid: it runs as root, whoever starts it"),
        (replace(FILE, mode=0o4755), replace(FILE, mode=0o755), ""),
        (None, replace(DIRECTORY, mode=0o2755), "setgid: files created in it get the group root"),
        (None, replace(FILE, attributes=CAPABLE), "it has the capabilities cap_setuid=ep"),
        (FILE, replace(FILE, attributes=CAPABLE), "it has the capabilities cap_setuid=ep"),
        (replace(FILE, attributes=CAPABLE), FILE, ""),
    ],
)  # fmt: skip
def test_what_gives_rights_is_warned_of(old: Entry | None, new: Entry, said: str) -> None:
    action: plan.Action = "metadata" if old and old.digest == new.digest else "put"
    assert _warned(Step("/opt/x", action, old, new)) == ([said] if said else [])


def test_groups_that_are_not_roots_are_warned_of() -> None:
    shared = replace(FILE, mode=0o664)
    assert _warned(Step("/opt/x", "put", None, shared, "root", "adm")) == ["the group adm can write to it"]
    assert _warned(Step("/opt/x", "metadata", shared, shared, "", "adm")) == ["the group adm can write to it"]
    kept = replace(shared, gid=4)
    assert _warned(Step("/opt/x", "metadata", replace(kept, mode=0o644), kept)) == ["the group 4 can write to it"]
    setuid = replace(FILE, mode=0o4755, uid=5)
    said = ["setuid: it runs as root, whoever starts it"]
    assert _warned(Step("/opt/x", "metadata", setuid, setuid, "root", "", old_user="games")) == said


_OBEYED = """
/etc/sudoers /etc/sudoers.d/x /etc/cron.d/x /etc/crontab /etc/cron.daily/x /etc/cron.hourly/.placeholder
/var/spool/cron/crontabs/root /var/spool/cron/root /etc/anacrontab /etc/ld.so.conf /etc/ld.so.conf.d/x.conf
/etc/ld.so.preload /etc/profile /etc/profile.d/x.sh /etc/environment /etc/pam.d/sudo /etc/pam.conf
/usr/lib/pam.d/x /etc/security/limits.conf /etc/security/pam_env.conf /etc/ssh/sshd_config
/etc/ssh/sshd_config.d/x.conf /etc/systemd/system/x.service /etc/systemd/system/a.wants/x.service
/usr/lib/systemd/system/x.service /lib/systemd/system-generators/x /usr/local/lib/systemd/system/x.timer
/lib/udev/rules.d/9.rules /usr/lib/udev/rules.d/9.rules /etc/udev/rules.d/9.rules /etc/apt/apt.conf
/etc/apt/apt.conf.d/9 /etc/apt/sources.list /etc/apt/sources.list.d/x.sources /etc/apt/trusted.gpg
/etc/apt/trusted.gpg.d/x.asc /etc/apt/keyrings/x /usr/share/keyrings/x.gpg /etc/apt/preferences.d/x
/etc/apt/auth.conf /etc/dpkg/dpkg.cfg /etc/dpkg/dpkg.cfg.d/x /etc/passwd /etc/shadow /etc/group /etc/gshadow
/etc/subuid /etc/subgid /etc/polkit-1/rules.d/x.rules /usr/share/polkit-1/actions/x.policy
/etc/modprobe.d/x.conf /usr/lib/modprobe.d/x.conf /lib/modprobe.d/x /etc/modules /etc/modules-load.d/x
/etc/sysctl.conf /etc/sysctl.d/9.conf /usr/lib/sysctl.d/9.conf /etc/binfmt.d/x /usr/lib/tmpfiles.d/x.conf
/etc/init.d/x /etc/rc.local /etc/bash.bashrc /root/.bashrc /root/.ssh/authorized_keys /etc/nsswitch.conf
/etc/logrotate.d/x /usr/lib/x86_64-linux-gnu/security/pam_x.so /lib/security/pam_x.so /etc/update-motd.d/x
/etc/kernel/postinst.d/x /usr/lib/python3/dist-packages/x.pth
/usr/local/lib/python3.11/dist-packages/sitecustomize.py /etc/dbus-1/system.d/x.conf
/usr/share/dbus-1/system-services/x.service /etc/network/if-up.d/x
"""
_NOT_OBEYED = """
/etc/issue /opt/x /usr/local/bin/x /usr/bin/x /etc/aptx /etc/xcron/y /usr/lib/x/systemd/x /etc/ssh/moduli
/usr/local/lib/python3.11/dist-packages/x/__init__.py /usr/local/etc/sudoers /etc/sudoers2 /home/x/.bashrc
/usr/share/doc/cron.d/x /etc/ld.so.confx
"""


@pytest.mark.parametrize("path", _OBEYED.split())
def test_what_roots_programs_obey_is_warned_of(path: str) -> None:
    """Whatever becomes of it; and a directory of such files when something else takes its place."""
    why = risks.obeyed(path)
    assert why
    for old, new in ((None, FILE), (FILE, replace(FILE, digest="x")), (FILE, None), (FILE, replace(FILE, mode=0o600))):
        action: plan.Action = "delete" if new is None else "put"
        assert why in _warned(Step(path, action, old, new))
    assert "it is a link, and its target is not shown" in _warned(Step(path, "put", None, LINK))
    assert "it belongs to games, who can change it" in _warned(Step(path, "put", None, FILE, "games"))
    assert _warned(Step(path, "put", None, DIRECTORY)) == []


@pytest.mark.parametrize(
    ("step", "warned"),
    [
        (Step("/usr/local/bin/x", "put", None, FILE, "games"), True),
        (Step("/usr/local/bin", "metadata", DIRECTORY, DIRECTORY, "games"), True),
        (Step("/usr/lib/x.so", "metadata", FILE, FILE, "games"), True),
        (Step("/etc/sudoers.d", "put", None, DIRECTORY, "games"), True),
        (Step("/usr/local/bin/x", "put", FILE, FILE, "games", old_user="games"), False),
        (Step("/usr/local/bin/x", "put", None, LINK, "games"), False),
        (Step("/usr/local/share/x", "put", None, FILE, "games"), False),
        (Step("/var/www/x", "put", None, FILE, "games"), False),
    ],
)
def test_what_root_runs_is_not_given_to_others_unseen(step: Step, warned: bool) -> None:
    assert _warned(step) == (["it belongs to games, who can change it"] if warned else [])


@pytest.mark.parametrize("path", _NOT_OBEYED.split())
def test_what_nobody_obeys_is_not(path: str) -> None:
    assert _warned(Step(path, "put", None, FILE)) == []


@pytest.mark.parametrize(
    "path",
    ["/etc/sudoers.d", "/etc/cron.d", "/etc/apt", "/etc/apt/apt.conf.d", "/etc/systemd", "/usr/lib/udev", "/etc/pam.d"],
)
def test_a_link_in_the_place_of_a_directory_is_warned_of(path: str) -> None:
    assert "it is a link, and its target is not shown" in _warned(Step(path, "put", DIRECTORY, LINK))


def test_packages_from_the_environment_are_warned_of() -> None:
    packages = (PackageStep("own", "added", "", "1", False, "own_1.deb"), PackageStep("known", "added", "", "1"))
    (risk,) = risks.of_plan(Plan("proj", packages, ()))
    assert (risk.what, "its scripts run as root" in risk.why) == ("package own", True)


def test_warnings_come_first_and_texts_are_escaped() -> None:
    step = Step("/etc/apt/apt.conf.d/x", "put", None, FILE, of_sources=True)
    text = apply.text(Plan("proj", (), (step,)), {step.path: "a\x1b[2J\n\n b\u202e\r\nend"})
    assert text.splitlines()[:2] == ["warning: /etc/apt/apt.conf.d/x: " + risks.obeyed(step.path), ""]
    shown = [line for line in text.splitlines() if line.startswith("      | ")]
    assert shown == ["      | a\\x1b[2J", "      | ", "      |  b\\u202e\\r", "      | end"]


_PUT = Step("/opt/a", "put", None, FILE)
_OTHER = Step("/opt/b", "put", None, FILE, link="/opt/a")


def _plan(*steps: Step) -> Plan:
    return Plan("proj", (), plan.ordered(steps))


@pytest.mark.parametrize(
    "steps",
    [
        (_PUT, _OTHER),
        (Step("/opt/a", "metadata", FILE, replace(FILE, mode=0o600)),),
        (Step("/opt/a", "delete", FILE, None),),
        (Step("/opt/a", "put", None, replace(FILE, attributes=(*CAPABLE, ("user.x", "00")))),),
        (Step("/etc/apt/apt.conf", "put", None, FILE, of_sources=True),),
        (Step("/opt/a", "put", None, LINK), Step("/opt/d", "put", None, DIRECTORY), Step("/opt/p", "put", None, FIFO)),
    ],
)
def test_what_is_shown_is_taken(steps: tuple[Step, ...]) -> None:
    made = _plan(*steps)
    assert checks.checked(plan.from_data(json.loads(json.dumps(plan.as_data(made))))) == made


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((replace(_PUT, new=replace(FILE, type="device")),), "creates no device"),
        ((replace(_PUT, new=replace(FILE, type="socket")),), "creates no socket"),
        ((replace(_PUT, new=replace(FILE, mode=0o100644)),), "wrong numbers"),
        ((replace(_PUT, new=replace(FILE, mode=-1)),), "wrong numbers"),
        ((replace(_PUT, new=replace(FILE, size=-1)),), "wrong numbers"),
        ((replace(_PUT, new=replace(FILE, attributes=(("system.posix_acl_access", "00"),))),), "not applied"),
        ((replace(_PUT, new=replace(FILE, attributes=(("trusted.overlay.opaque", "79"),))),), "not applied"),
        ((replace(_PUT, new=replace(FILE, attributes=(("security.selinux", "00"),))),), "not applied"),
        ((replace(_PUT, new=replace(FILE, attributes=(("security.capability", "00"),))),), "no capabilities"),
        ((replace(_PUT, new=replace(FILE, attributes=(("user.x", "0g"),))),), "non-hexadecimal"),
        ((replace(_PUT, new=None),), "unknown action 'put'"),
        ((replace(_PUT, action="delete"),), "both deleted and created"),
        ((replace(_PUT, action="other"),), "unknown action 'other'"),  # type: ignore[arg-type]
        ((replace(_PUT, action="metadata"),), "its content differs"),
        ((Step("/opt/a", "metadata", FILE, replace(FILE, digest="x")),), "its content differs"),
        ((Step("/opt/a", "metadata", DIRECTORY, FILE),), "its content differs"),
        ((_OTHER,), "differs from '/opt/a'"),
        ((_PUT, replace(_OTHER, new=replace(FILE, mode=0o600))), "differs from"),
        ((replace(_PUT, new=replace(FILE, attributes=CAPABLE)), _OTHER), "differs from"),
        ((_PUT, replace(_OTHER, user="games")), "differs from"),
        ((Step("/opt/a", "put", None, DIRECTORY), replace(_OTHER, new=DIRECTORY)), "differs from"),
        ((replace(_PUT, path="/etc/apt/apt.conf.d/x"),), "it is out of order"),
        ((replace(_PUT, of_sources=True),), "it is out of order"),
        ((replace(_PUT, path="/etc/passwd"),), "accounts are never overwritten"),
        ((replace(_PUT, path="/etc/shadow", action="delete", new=None),), "accounts are never overwritten"),
        ((_PUT, replace(_PUT, new=replace(FILE, mode=0o600))), "out of order"),
    ],
)
def test_what_would_not_be_seen_is_refused(steps: tuple[Step, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checks.checked(_plan(*steps))


def test_steps_are_done_in_the_order_in_which_they_are_shown() -> None:
    with pytest.raises(ValueError, match="out of order"):
        checks.checked(Plan("proj", (), (replace(_PUT, path="/opt/b"), _PUT)))


@pytest.mark.parametrize(
    ("change", "value"),
    [("mode", "0644"), ("mode", None), ("mode", 1.5), ("size", "1"), ("uid", []), ("type", 1), ("attributes", [["a"]])],
)
def test_what_is_no_number_is_refused(change: str, value: object) -> None:
    data: dict[str, Any] = json.loads(json.dumps(plan.as_data(_plan(_PUT))))
    data["steps"][0]["new"][change] = value
    check: Callable[[], Plan] = lambda: checks.checked(plan.from_data(data))  # noqa: E731
    with pytest.raises((ValueError, TypeError)):
        check()


def test_a_further_name_has_all_that_its_file_has() -> None:
    first = Step(
        "/opt/a", "put", replace(FILE, uid=33), replace(FILE, mode=0o4755), old_user="www-data", old_group="root"
    )
    other = plan.linked(Step("/opt/b", "put", None, FILE), first)
    assert (other.link, other.new, other.owner) == ("/opt/a", first.new, ("www-data", "root"))
    checks.checked(_plan(first, other))
    nameless = replace(first, old_user="")
    assert plan.linked(_OTHER, nameless) == _OTHER


def test_numbers_alone_are_no_change() -> None:
    same = Step("/opt/a", "metadata", replace(FILE, uid=7), replace(FILE, uid=9), "games", "", old_user="games")
    assert plan.changes_nothing(same)
    assert not plan.changes_nothing(replace(same, user="root"))
    assert not plan.changes_nothing(replace(same, new=replace(FILE, mode=0o600)))
