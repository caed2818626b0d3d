"""PURE: what in a plan deserves a second look, each with its reason."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from sysenv_ns.apply import metadata
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.plan import Owner, PackageStep, Plan, Step

_ROOT = "root"
_ETC_OR_LIB = r"(/etc|(/usr(/local)?)?/lib)"
# Whole paths, and why: root's programs obey what is there, or execute it. Directories stand for links in their places.
OBEYED: tuple[tuple[str, str], ...] = (
    (r"/etc/apt/apt\.conf(\.d(/.*)?)?", "apt obeys it at once, and runs commands from it as root"),
    (r"/etc/apt/(trusted\.gpg|keyrings)(\.d)?(/.*)?|/usr/share/keyrings(/.*)?", "apt trusts what is signed with it"),
    (r"/etc/apt/sources\.list(\.d(/.*)?)?", "apt installs packages from there as root"),
    (r"/etc/apt(/.*)?", "apt obeys it"),
    (r"/etc/dpkg(/.*)?|/etc/(debconf\.conf|needrestart(/.*)?|kernel/.*)", "package installations obey it"),
    (r"/etc/sudo(ers(\.d(/.*)?)?|\.conf)|/etc/doas\.conf", "it decides who may become root"),
    (r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?", "it decides which users exist and who may log in"),
    (r"(/etc|/usr/lib)/pam\.(d(/.*)?|conf)|/etc/security(/.*)?", "logins and sudo obey it"),
    (r"((/usr)?/lib)(/[^/]*)?/security(/.*)?", "logins and sudo load it"),
    (r"/etc/(nsswitch\.conf|login\.defs|securetty|shells)", "logins obey it"),
    (r"/etc/ssh/(sshd?_config(\.d(/.*)?)?|sshrc)", "ssh obeys it"),
    (r"/etc/(anacrontab|cron[^/]*(/.*)?|at\.(allow|deny))|/var/spool/(cron|at)(/.*)?", "cron runs commands from it"),
    (r"/etc/logrotate\.(conf|d(/.*)?)", "logrotate runs commands from it as root"),
    (r"/etc/ld\.so\.preload", "every program loads it, even as root"),
    (r"/etc/ld\.so\.conf(\.d(/.*)?)?", "every program loads libraries from there, even as root"),
    (r"/etc/(profile(\.d(/.*)?)?|bash\.bashrc|zsh(/.*)?|environment(\.d(/.*)?)?)", "logins obey it, even root's"),
    (r"/root(/.*)?", "it is root's home"),
    (rf"{_ETC_OR_LIB}/systemd(/.*)?", "systemd obeys it, as root"),
    (rf"{_ETC_OR_LIB}/udev(/.*)?", "udev runs commands from it"),
    (rf"{_ETC_OR_LIB}/(modprobe|modules-load)\.d(/.*)?|/etc/modules", "modprobe loads modules, runs commands from it"),
    (rf"{_ETC_OR_LIB}/sysctl\.d(/.*)?|/etc/sysctl\.conf", "it sets parameters of the kernel"),
    (rf"{_ETC_OR_LIB}/binfmt\.d(/.*)?", "it tells the kernel how to start programs"),
    (rf"{_ETC_OR_LIB}/(tmpfiles|sysusers|environment)\.d(/.*)?", "systemd obeys it, as root"),
    (r"(/etc|/usr(/local)?/share)/polkit-1(/.*)?", "it decides who may do what only root could"),
    (r"(/etc|/usr(/local)?/share)/dbus-1(/.*)?", "it decides who may call root's services, and starts them"),
    (r"/etc/(apparmor(\.d)?|selinux)(/.*)?", "it decides what programs may do"),
    (r"/etc/(init\.d|rc[0-6S]\.d|update-motd\.d|network|dhcp|NetworkManager|ppp|acpi)(/.*)?", "root runs it"),
    (r"/usr/lib/NetworkManager(/.*)?|/etc/(rc\.local|inittab|inetd\.conf|xinetd\..*)", "root runs it"),
    (r"/etc/(initramfs-tools|grub\.d|dracut\.conf\.d)(/.*)?|/etc/default/grub(\.d(/.*)?)?", "it is used at boot"),
    (r"/usr/local/share/ca-certificates(/.*)?|/etc/ca-certificates(\.conf|/.*)?|/etc/ssl/certs(/.*)?",
     "programs trust what is signed with it"),
    (r"/usr/(local/)?lib/python3[^/]*/((dist|site)-packages/)?([^/]*\.pth|(site|user)customize\.py)|"
     r"/etc/python3[^/]*/sitecustomize\.py", "every Python program runs it, even as root"),
    (r"/etc/perl(/.*)?", "every Perl program runs it, even as root"),
)  # fmt: skip

# Where programs and libraries are that root's programs run without a thought.
_RUN = re.compile(r"(/usr(/local)?)?/(s?bin|lib(exec|32|64|x32)?)(/.*)?", re.DOTALL)


@dataclass(frozen=True)
class Risk:
    """A path, or a package, and what to consider."""

    what: str
    why: str


def of_plan(plan: Plan) -> tuple[Risk, ...]:
    """All of them, in the plan's order."""
    packages = [Risk(f"package {p.name}", why) for p in plan.packages for why in _of_package(p)]
    return (*packages, *(Risk(step.path, why) for step in plan.steps for why in _of_step(step)))


def obeyed(path: str) -> str:
    """Which programs obey a file at this path; "" for none that is known."""
    return next((why for pattern, why in OBEYED if re.fullmatch(pattern, path, re.DOTALL)), "")


def _of_package(package: PackageStep) -> Iterator[str]:
    if package.file:
        yield "its file comes from the environment, and its scripts run as root; no repository vouches for them"


def _of_step(step: Step) -> Iterator[str]:
    yield from _of_rights(step)
    why = obeyed(step.path)
    if step.owner[0] != _ROOT and _is_given_away(step) and (why or _RUN.fullmatch(step.path)):
        yield f"it belongs to {step.owner[0]}, who can change it"
    if why and {entry.type for entry in (step.old, step.new) if entry} != {"directory"}:
        yield why
        if step.new and step.new.type == "symlink":
            yield "it is a link, and its target is not shown"


def _is_given_away(step: Step) -> bool:
    """Whether the owner is new, and can change it."""
    if step.new is None or step.new.type == "symlink":
        return False
    return step.old is None or step.old.type != step.new.type or step.was[0] != step.owner[0]


def _of_rights(step: Step) -> Iterator[str]:
    """Permissions that others newly get; for a new content also those that they had."""
    if step.new is None:
        return
    same = step.old if step.old and step.old.type == step.new.type else None
    before = {*_writers(same, step.was), *_powers(same, step.was)} if same else set()
    if step.action == "put" and same:
        before -= {*_powers(same, step.was)}
    found = (*_writers(step.new, step.owner), *_powers(step.new, step.owner))
    yield from (why for why in found if why not in before)


def _writers(entry: Entry, owner: Owner) -> Iterator[str]:
    """Who can write besides the owner; in a sticky directory nobody can change files of others."""
    if entry.type == "symlink" or (entry.type == "directory" and entry.mode & stat.S_ISVTX):
        return
    into = "put files into it and delete those of others" if entry.type == "directory" else "write to it"
    if entry.mode & stat.S_IWOTH:
        yield f"everybody can {into}"
    if entry.mode & stat.S_IWGRP and owner[1] != _ROOT:
        yield f"the group {owner[1]} can {into}"


def _powers(entry: Entry, owner: Owner) -> Iterator[str]:
    """The rights of whoever runs it."""
    if entry.type == "file" and entry.mode & stat.S_ISUID:
        yield f"setuid: it runs as {owner[0]}, whoever starts it"
    if entry.type == "file" and entry.mode & stat.S_ISGID:
        yield f"setgid: it runs with the group {owner[1]}, whoever starts it"
    if entry.type == "directory" and entry.mode & stat.S_ISGID:
        yield f"setgid: files created in it get the group {owner[1]}"
    if names := metadata.capabilities_of(entry):
        yield f"it has the capabilities {names}"
