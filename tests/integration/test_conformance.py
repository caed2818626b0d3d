"""Files of the host behave inside as in a plain copy, but for differences that are known, each with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .machines import Machine
from .support import succeeded

_CHECKS = Path(__file__).with_name("conformance.py")
_COPY_UP = "overlayfs copies a file of a lower layer when it is first written to; who has it mapped keeps the old one"
_LINKS = "without an index, which needs real root, the names of a file of a lower layer part when one is written to"
_MOVES = "a directory of a lower layer is made anew where it is renamed to (redirect_dir needs real root)"
# docs/file-system.md has them for users.
ALLOWED = {
    "map_before_another_writes": _COPY_UP,
    "write_to_one_of_two_names": _LINKS,
    "rename_two_names_of_one_file": _LINKS,
    "unlink_one_of_two_names": _LINKS,
    "link_of_what_is_changed": "a file that was written to in place is known by the lower one until the next start",
    "replace_keeps_what_is_open": "a file of a lower layer still has its name there",
    "writing_clears_set_user_id": "overlayfs clears the bit at each write, as others do for all but root",
    "rename_a_directory_keeps_its_number": _MOVES,
}


@pytest.mark.modes("full", more=("single",))
def test_files_of_the_host_are_files(machine: Machine) -> None:
    script = _CHECKS.read_text()
    for place in ("/usr/share/checks", "/srv/checks"):
        machine.sh('mkdir -p "$2"; python3 -I -c "$1" make "$2"', script, place)
    machine.sh("cp -p /var/lib/dpkg/status /var/lib/dpkg/status-new; mv /var/lib/dpkg/status-new /var/lib/dpkg/status")
    plain = json.loads(machine.sh('python3 -I -c "$1" /srv/checks', script))
    environment = machine.create()
    inside = json.loads(succeeded(environment.exec("python3", "-I", "-c", script, "/usr/share/checks")).stdout)
    assert len(plain) >= 60
    assert [name for name, result in plain.items() if result.startswith("failed")] == []
    different = {name: (inside[name], plain[name]) for name in plain if inside[name] != plain[name]}
    assert {name: pair for name, pair in different.items() if name not in ALLOWED} == {}
    assert set(ALLOWED) - set(different) == set(), "what does not differ any more is no allowed difference"
