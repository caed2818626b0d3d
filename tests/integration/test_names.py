"""Names of what lies below an environment's changes: links to files of the host, and directories that are renamed."""

from __future__ import annotations

import pytest

from .support import Environment, succeeded

pytestmark = pytest.mark.modes("full", more=("single",))

_RENAME = 'python3 -c "import os, sys; os.rename(*sys.argv[1:])"'
_NOTHING_LEFT = "test -z \"$(find /usr/share /etc /opt /srv -name '.sysenv-ns-*')\""


def test_a_link_to_a_host_file_is_that_file(environment: Environment) -> None:
    """For programs that compare, and for those that write: cp(1) emptied what it took for another file."""
    environment.sh(
        f"""
        cd /etc
        ln services s2
        ! cp services s2
        cmp services /usr/share/doc/../../../etc/s2; test -s services
        test services -ef s2; test "$(find . -maxdepth 1 -samefile services | wc -l)" = 2
        echo more >> s2; test "$(tail -n 1 services)" = more
        cd /usr/bin; before=$(stat -c '%a %u %g %s %Y' tac); ln tac tac2
        test tac -ef tac2; test "$before" = "$(stat -c '%a %u %g %s %Y' tac2)"
        {_NOTHING_LEFT}
        """
    )
    environment.sh("test /etc/services -ef /etc/s2; test /usr/bin/tac -ef /usr/bin/tac2; tac2 /etc/s2 | head -n 1")


def test_a_link_by_other_means(environment: Environment) -> None:
    """Relative to a descriptor, following, in a directory that only root may enter, in a chroot, by another process."""
    environment.sh(
        f"""
        python3 -c '
import os
d = os.open("/usr/bin", os.O_PATH)
os.link("sum", "sum2", src_dir_fd=d, dst_dir_fd=d)
os.link("cut", "/usr/bin/cut2", src_dir_fd=d)
assert all(os.path.samefile(f"/usr/bin/{{name}}", f"/usr/bin/{{name}}2") for name in ("sum", "cut"))
'
        mkdir -m 700 /usr/share/doc/closed
        mv /usr/share/doc/bash /usr/share/doc/closed; chmod 700 /usr/share/base-files
        cd /usr/share/base-files; ln dot.bashrc two; test dot.bashrc -ef two
        chroot / ln /usr/bin/tee /usr/bin/tee2; test /usr/bin/tee -ef /usr/bin/tee2
        ln /usr/bin/tee2 /usr/bin/tee3; test /usr/bin/tee3 -ef /usr/bin/tee
        {_NOTHING_LEFT}
        """
    )


def test_who_writes_to_a_file_that_is_linked_goes_on_writing_to_it(environment: Environment) -> None:
    environment.sh("cd /etc; exec 3>> services; ln services s2; echo more >&3; test $(tail -n 1 s2) = more")


def test_directories_are_renamed(environment: Environment) -> None:
    """Of the host, with what was changed in them; and back; whole, with modes, times and links."""
    environment.sh(
        f"""
        cd /usr/share
        picture() {{ (cd "$1" && find . -printf '%P %y %m %U %G %T@ %l\\n' | sort); }}
        echo mine > doc/mine; rm -r doc/bash
        picture doc > /tmp/before.$$
        {_RENAME} doc /opt/moved
        picture /opt/moved | cmp - /tmp/before.$$
        test ! -e doc
        {_RENAME} /opt/moved doc
        picture doc | cmp - /tmp/before.$$; rm /tmp/before.$$
        perl -e 'rename "doc/dpkg", "doc/renamed" or die $!'; test ! -e doc/dpkg; test -d doc/renamed
        {_NOTHING_LEFT}
        """
    )
    environment.sh("test -e /usr/share/doc/mine; test ! -e /opt/moved; test -d /usr/share/doc/renamed")


def test_what_is_refused_leaves_everything_as_it_is(environment: Environment) -> None:
    """Another file system, a directory that is full, one that something is mounted in."""
    environment.sh(
        f"""
        count() {{ find /usr/share/doc | wc -l; }}
        before=$(count)
        mkdir -p /opt/full/x
        for target in /tmp/moved.$$ /opt/full /usr/share/doc/dpkg/inner /etc/passwd; do
            ! {_RENAME} /usr/share/doc $target 2> /dev/null
            test "$(count)" = "$before"
        done
        unshare --mount sh -ec 'mount -t tmpfs t /usr/share/doc/dpkg; ! {_RENAME} /usr/share/doc /opt/moved 2>&-'
        test "$(count)" = "$before"; test ! -e /opt/moved
        {_NOTHING_LEFT}
        """
    )


def test_after_a_snapshot_programs_go_on(environment: Environment) -> None:
    """git mv and the like of directories that are older than it."""
    tool = environment.tool
    environment.sh(
        "mkdir -p /srv/tree/a/b; echo 1 > /srv/tree/a/b/file; ln -s b /srv/tree/a/link; chmod 750 /srv/tree/a"
    )
    succeeded(tool.run("snapshot", environment.name, "first"))
    environment.sh(
        f"""
        cd /srv/tree; {_RENAME} a c; test "$(cat c/link/file)" = 1; test "$(stat -c %a c)" = 750
        {_RENAME} /srv/tree /srv/other; test ! -e /srv/tree; echo 2 >> /srv/other/c/b/file
        """
    )
    succeeded(tool.run("snapshot", environment.name, "second"))
    assert environment.sh(f"{_RENAME} /srv/other /srv/tree; cat /srv/tree/c/b/file; ls /srv").split() == [
        "1",
        "2",
        "tree",
    ]
