"""freeze and sync: an environment matches what is written down, or is as before; small packages on small hosts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pexpect
import pytest

from .debs import Deb, program
from .machines import Machine
from .support import (
    APT_LIMIT,
    BASE_LIMIT,
    Environment,
    Result,
    Tool,
    describe,
    ended,
    finish,
    line,
    refused,
    running,
    succeeded,
    wait_for,
)
from .terminals import spawn
from .upgrades import asking

_VARIABLES = "/var/lib/sysenv-ns/variables.json"
_STATES = "dpkg-query -W -f '${Package} ${db:Status-Abbrev}${Version}\n' 'm-*' 2>/dev/null || true"
_PICTURE = f"""
{_STATES}
apt-mark showmanual 'm-*' | LC_ALL=C sort; apt-mark showhold
find /etc /opt /usr/local /var/lib/dpkg -type f -exec md5sum {{}} + | LC_ALL=C sort -k 2
find /etc /opt /usr/local ! -type f -printf '%p %y %m %l\n' | LC_ALL=C sort
"""
_DEBS = (
    program("m-a", Depends="m-lib", Recommends="m-nice"),
    program("m-b"),
    program("m-b", "2"),
    program("m-lib"),
    program("m-nice"),
    program("m-host"),
    program("m-rival", Conflicts="m-host"),
    Deb("m-broken", "1", {}, {"/usr/bin/m-broken": ""}, {"postinst": "#!/bin/sh\nexit 7\n"}),
    asking("asked", "1", "rb-asked/one", "rb-asked/two"),
)


@dataclass(frozen=True)
class Project:
    """A directory with a sysenv.toml, and a repository that its environments know."""

    machine: Machine
    directory: Path
    name: str = "test"

    @property
    def file(self) -> Path:
        """The manifest."""
        return self.directory / "sysenv.toml"

    @property
    def tool(self) -> Tool:
        """The tool on its host."""
        return self.machine.tool

    @property
    def environment(self) -> Environment:
        """The environment."""
        return self.tool.environment(self.name)

    def write(self, text: str) -> None:
        """A manifest, with the repository."""
        repository = f"deb [trusted=yes] file:{self.directory}/archive ./"
        sources = "".join(f'"{path.name}" = false\n' for path in self._hosts())
        self.file.write_text(f'{text}\n[repositories]\n"local.list" = "{repository}\\n"\n{sources}')

    def _hosts(self) -> list[Path]:
        found = (self.machine.root / "etc/apt/sources.list.d").iterdir()
        return sorted(path for path in found if path.suffix in (".list", ".sources"))

    def sync(self, *options: str, **keywords: Any) -> Result:
        """`sync` of the environment, whether it works or not."""
        new = () if "--check" in options else self.tool.options
        return self.tool.run("sync", *options, *new, self.name, str(self.file), limit=APT_LIMIT, **keywords)

    def done(self) -> list[tuple[str, str]]:
        """What a sync that must succeed has done."""
        data = json.loads(succeeded(self.sync("--yes", "--json")).stdout)
        assert data["done"]
        return [(action["kind"], action["subject"]) for action in data["actions"]]

    def assert_matches(self) -> None:
        """There is nothing to do."""
        check = succeeded(self.sync("--check"))
        assert check.stdout == f"{self.name} matches {self.file}\n", describe(check)
        assert self.done() == []

    def states(self) -> dict[str, str]:
        """The packages of the repository."""
        return dict(line.split(" ", 1) for line in self.environment.sh(_STATES).splitlines())

    def assert_nothing_is_left(self) -> None:
        """No layer, and nothing of a trial."""
        left = {name for place in ("layers", "trash") for name in os.listdir(self.tool.store / place)} - {"lock"}
        assert left == set()
        history = json.loads(succeeded(self.tool.run("history", self.name, "--json")).stdout)
        assert history["snapshots"] == []


@pytest.fixture
def project(machine: Machine, packages: Path) -> Project:
    """A host with one of the packages."""
    archive = packages / "archive"
    archive.mkdir()
    paths = [deb.build(archive) for deb in _DEBS]
    index = ""
    for deb, path in zip(_DEBS, paths, strict=True):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        index += f"{deb.control()}Filename: ./{path.name}\nSize: {len(data)}\nSHA256: {digest}\n\n"
    (archive / "Packages").write_text(index)
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", packages], check=True)
    machine.sh(
        "mkdir -p /var/lib/dpkg/updates /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt; "
        'dpkg -i "$1"; echo theirs > /etc/m-edited',
        str(archive / "m-host_1_all.deb"),
    )
    return Project(machine, packages)


_FULL = """
packages = ["m-a", "rb-asked"]
removed = ["m-host"]
held = ["m-a"]
debconf = ["rb-asked rb-asked/one string an answer"]

[[scripts]]
name = "note"
run = '''
cat files/data >> /opt/note
'''

[files]
"/etc/m-edited" = "ours\\n"
"/etc/m-b.conf" = '''
"quoted" \\\\ text
'''

[files."/usr/local/bin/m-tool"]
text = "#!/bin/sh\\necho tool\\n"
mode = "0755"

[files."/opt/data"]
source = "files/data"
owner = "nobody:nogroup"

[files."/usr/local/link"]
link = "bin/m-tool"
"""


@pytest.mark.modes("full", more=("single", "root"))
def test_an_environment_is_made_and_kept_in_step(project: Project) -> None:
    """Only what differs is done; what is given up goes with what it needed; all as often as you like."""
    (project.directory / "files").mkdir()
    (project.directory / "files/data").write_bytes(b"data \xff\n")
    project.write(_FULL)
    store = [*project.tool.store.rglob("*")]
    assert project.sync("--check").returncode == 1
    assert [*project.tool.store.rglob("*")] == store
    kinds = [kind for kind, _ in project.done()]
    assert {"repository", "answer", "install", "remove", "hold", "file", "script"} == {*kinds}
    environment = project.environment
    expected = {"m-a": "hi 1", "m-lib": "ii 1", "m-nice": "ii 1", "m-host": "rc 1"}
    assert project.states() == expected
    assert environment.sh("cat /etc/m-edited /opt/note; /usr/local/link") == "ours\ndata \udcff\ntool\n"
    owner = "nobody nogroup\n" if project.tool.mode != "single" else "root root\n"
    assert environment.sh("stat -c '%U %G' /opt/data") == owner
    assert environment.sh("debconf-show rb-asked | LC_ALL=C sort") == "  rb-asked/two: 1\n* rb-asked/one: an answer\n"
    project.assert_matches()
    project.assert_nothing_is_left()

    (project.directory / "files/data").write_text("other\n")
    assert project.done() == [("file", "/opt/data"), ("script", "note")]
    project.write('packages = ["m-b=1"]\nheld = ["m-b"]\n[files]\n"/usr/local/link" = "now a file\\n"')
    done = project.done()
    assert {("install", "m-b=1"), ("install", "m-host"), ("drop", "m-a"), ("unhold", "m-a")} <= {*done}
    assert project.states() == {"m-b": "hi 1", "m-host": "ii 1"}
    assert environment.sh("cat /etc/m-edited /usr/local/link /etc/m-b.conf") == "theirs\nnow a file\nas shipped\n"
    assert environment.sh("ls /opt /usr/local/bin") == "/opt:\nnote\n\n/usr/local/bin:\n"
    assert environment.sh("dpkg --audit") == ""
    project.assert_matches()
    project.write('packages = ["m-b=2"]')
    assert project.done() == [("install", "m-b=2"), ("unhold", "m-b"), ("file", "/usr/local/link")]
    assert project.states()["m-b"] == "ii 2"
    project.write("")
    project.done()
    changed = json.loads(succeeded(project.tool.run("diff", "--json", project.name)).stdout)
    assert changed["packages"] == []
    added = [change["path"] for change in changed["changes"] if change["kind"] == "added" and not change["package"]]
    left = [path for path in added if path.startswith(("/etc/", "/opt/", "/usr/"))]
    assert left == ["/etc/apt/sources.list.d/local.list", "/opt/note"]


@pytest.mark.modes("full", more=("single", "root"))
def test_variables(project: Project) -> None:
    """They are set for sessions, but not against the user's own; they go along, and away with the line."""
    project.write('[env]\nSTAGE = "of the project"\nTOOL = "a\\nb"')
    assert "STAGE" in project.sync("--check").stdout
    assert ("file", _VARIABLES) in project.done()
    project.assert_matches()
    environment, tool = project.environment, project.tool
    assert environment.sh('echo "$STAGE $TOOL"') == "of the project a\nb\n"
    succeeded(tool.run("snapshot", project.name, "one"))
    asked = tool.run("exec", "--env", "STAGE=asked for", project.name, "--", "printenv", "STAGE")
    assert succeeded(asked).stdout == "asked for\n"
    settings = tool.store / "envs" / project.name / "config.toml"
    if tool.mode != "root":
        settings.write_text('[env]\nSTAGE = "mine"\n')
        assert environment.sh('echo "$STAGE"') == "mine\n"
        settings.unlink()
    frozen = succeeded(tool.run("freeze", project.name)).stdout
    assert 'STAGE = "of the project"' in frozen
    assert "variables.json" not in frozen
    environment.sh("""echo '{"STAGE": 1, "SYSENV_NS": "x", "a b": "x", "LEFT": "y"}' > "$1" """, _VARIABLES)
    assert environment.sh('echo "${STAGE-none} $SYSENV_NS $LEFT"') == f"none {project.name} y\n"
    environment.sh('rm "$1"; ln -s /etc/passwd "$1"', _VARIABLES)
    assert environment.sh('echo "${STAGE-none}"') == "none\n"
    assert project.done() == [("file", _VARIABLES)]
    project.write("")
    assert project.done() == [("file", _VARIABLES)]
    assert environment.sh('echo "${STAGE-none}"; ls "$1" 2>&1 || true', _VARIABLES).startswith("none\nls: cannot")


@pytest.mark.modes("full", more=("single", "root"))
def test_packages_are_added_and_dropped(project: Project) -> None:
    """Without a question, in the environment and in its file; or, where they cannot be had, in neither."""
    project.write('name = "test"  # ours')
    for path in (project.directory, project.file):
        os.chown(path, project.tool.account.uid, project.tool.account.gid)
    project.done()
    text = project.file.read_text()

    def run(*arguments: str) -> Result:
        inside = replace(project.tool, prefix=(*project.tool.prefix, "env", f"--chdir={project.directory}"))
        return inside.run(*arguments, limit=APT_LIMIT)

    succeeded(run("add", "m-a", "m-b=1"))
    assert project.states() == {"m-a": "ii 1", "m-b": "ii 1", "m-lib": "ii 1", "m-host": "ii 1", "m-nice": "ii 1"}
    assert _lines(project.file.read_text()) == _lines(text.replace("\n", '\npackages = ["m-a", "m-b=1"]\n', 1))
    project.assert_matches()
    added = project.file.read_text()
    refused(run("add", "m-broken"), 1, "test cannot be synced, nothing was changed")
    assert project.file.read_text() == added
    succeeded(run("drop", "m-a", "m-b"))
    assert project.states() == {"m-host": "ii 1"}
    assert _lines(project.file.read_text()) == _lines(text.replace("\n", "\npackages = []\n", 1))
    project.assert_nothing_is_left()


def _lines(text: str) -> list[str]:
    """Later versions of tomlkit put an empty one before a table."""
    return [line for line in text.splitlines() if line]


@pytest.mark.modes("full", more=("single", "root"))
def test_own_packages_are_upgraded(project: Project) -> None:
    """Those of the system are not, and what came because others need it is not asked for now."""
    project.write('packages = ["m-a", "m-b=1"]')
    project.done()
    asked_for = "apt-mark showmanual 'm-*' | sort | tr '\\n' ' '"
    before = project.environment.sh(asked_for)
    succeeded(project.tool.run("upgrade", "--yes", project.name, limit=APT_LIMIT))
    assert project.states() == {"m-a": "ii 1", "m-b": "ii 2", "m-lib": "ii 1", "m-host": "ii 1", "m-nice": "ii 1"}
    assert project.environment.sh(asked_for) == before
    project.environment.sh("apt-get -q -y install --allow-downgrades m-b=1")
    said = succeeded(project.tool.run("upgrade", "--all", "--yes", limit=APT_LIMIT)).stderr
    assert f"upgrading {project.name}\n" in said
    assert project.states()["m-b"] == "ii 2"


@pytest.mark.modes("full")
def test_changes_by_hand_are_taken_back(project: Project) -> None:
    project.write('packages = ["m-a"]\n[files]\n"/etc/mine" = "mine\\n"')
    project.done()
    project.environment.sh(
        "apt-get -q -y install m-b; apt-get -q -y remove m-nice; dpkg -r m-host; apt-mark hold m-a; echo x >> /etc/mine"
    )
    check = project.sync("--check", "--json")
    assert check.returncode == 1
    actions = [(a["kind"], a["subject"]) for a in json.loads(check.stdout)["actions"]]
    # What is only recommended is not missed.
    assert actions == [("install", "m-host"), ("drop", "m-b"), ("unhold", "m-a"), ("file", "/etc/mine")]
    assert project.done() == actions
    assert project.states() == {"m-a": "ii 1", "m-lib": "ii 1", "m-host": "ii 1", "m-nice": "rc 1"}
    project.assert_matches()


@pytest.mark.modes("full")
def test_what_packages_exclude_is_not_asked_for_again(project: Project) -> None:
    """A package that takes one of the host away; both at once cannot be had."""
    project.write('packages = ["m-rival"]')
    project.done()
    assert project.states() == {"m-host": "rc 1", "m-rival": "ii 1"}
    project.assert_matches()
    project.write('packages = ["m-rival", "m-host"]')
    refused(project.sync("--yes"), 1, "test cannot be synced, nothing was changed", "m-host", "conflict with others")
    assert project.states() == {"m-host": "rc 1", "m-rival": "ii 1"}


@pytest.mark.modes("single")
def test_a_failure_leaves_the_environment_as_it_was(project: Project) -> None:
    """Wherever it comes; a new one is not there at all."""
    script = '\n[[scripts]]\nname = "bad"\nrun = "echo x > /opt/x; false"\n'
    project.write(f'packages = ["m-b"]{script}')
    refused(project.sync("--yes"), 1, "test cannot be synced, nothing was changed: script: bad failed with status 1")
    assert project.tool.run("status", "test").returncode == 1
    project.write('packages = ["m-a"]')
    project.done()
    project.environment.sh("echo mine > /opt/mine")
    picture = project.environment.sh(_PICTURE)
    for text, words in (
        (f'packages = ["m-b"]{script}', ("script: bad",)),
        ('packages = ["m-broken"]', ("install and remove packages failed with status 100", "see its output above")),
        ('packages = ["m-none"]', ("fetch packages failed with status 100",)),
        ('packages = ["m-b=3"]', ("m-b=3 is in no repository; available: 1 2", "leave out the version")),
        ('packages = ["m-b"]\n[files]\n"/opt" = "x"', ("/opt is a directory", "give the path of a file")),
        ('packages = ["m-b"]\n[files]\n"/home/x" = "x"', ("/home/x is this system's own",)),
        (
            'packages = ["m-b"]\n[files."/etc/x"]\ntext = ""\nowner = "no-one:root"',
            ("chown no-one:root /etc/x failed",),
        ),
    ):
        project.write(text)
        refused(project.sync("--yes"), 1, "nothing was changed", *words)
        assert project.environment.sh(_PICTURE) == picture, text
        assert not Path("/home/x").exists()
    project.write('packages = ["m-a", "m-b"]')
    project.done()
    assert project.environment.sh("cat /opt/mine; m-b") == "mine\nm-b 2\n"
    project.assert_nothing_is_left()


_LONG = ("sleep", str(987 + os.getpid() / 10**8))  # this process's own


@pytest.mark.modes("full")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(project: Project, number: signal.Signals) -> None:
    """With Ctrl-C it ends at once with all that it started; what a kill leaves, the next one ends."""
    project.write('packages = ["m-a"]')
    project.done()
    picture = project.environment.sh(_PICTURE)
    project.write('packages = ["m-b"]\n[[scripts]]\nrun = "' + " ".join(_LONG) + '"\n')
    process = project.tool.start("sync", "--yes", "test", str(project.file))
    wait_for(lambda: running(*_LONG) != [])
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
        result = finish(process)
        assert result.returncode == 130, describe(result)
        assert "the sync of test was interrupted, nothing was changed" in result.stderr
        wait_for(lambda: running(*_LONG) == [])
    else:
        process.kill()  # not its pipes: what is left of it has them, too
        ended(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        assert running(*_LONG)
    assert project.environment.sh(_PICTURE) == picture
    project.write('packages = ["m-b"]')
    project.done()
    assert running(*_LONG) == []
    assert project.states() == {"m-b": "ii 2", "m-host": "ii 1"}
    project.assert_nothing_is_left()


@pytest.mark.modes("full")
def test_interrupted_when_it_is_kept(project: Project) -> None:
    """What is in its place already is not said to be unchanged, nor taken away."""
    many = "mkdir /opt/many; cd /opt/many; seq 25000 | xargs touch"
    project.write('packages = ["m-a"]')
    project.done()
    project.environment.sh(many)
    kept = project.tool.store / "envs/test"
    before = kept.stat().st_ino
    frozen: set[int] = set()

    def is_kept() -> bool:
        # First its changes are frozen, and that is another directory too.
        frozen.add(kept.stat().st_ino)
        return len(frozen - {before}) > 1 and os.listdir(project.tool.store / "layers") == ["lock"]

    project.write('packages = ["m-b"]\n[[scripts]]\nrun = "rm -r /opt/many; sleep 1"\n')
    process = project.tool.start("sync", "--yes", "test", str(project.file))
    while not is_kept():  # then what was frozen is deleted, in less time than wait_for lets pass
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    result = finish(process)
    assert result.returncode == 0, describe(result)
    assert "interrupted" not in result.stderr
    assert project.states() == {"m-b": "ii 2", "m-host": "ii 1"}
    project.assert_matches()
    project.assert_nothing_is_left()


@pytest.mark.modes("full")
def test_what_was_frozen_makes_the_same(project: Project) -> None:
    """Packages, versions, answers, files, keys, repositories; again frozen it is the same text."""
    project.write('packages = ["m-a", "rb-asked", "m-b=1"]\n[[scripts]]\nrun = "true"\n')
    project.done()
    project.environment.sh(
        """
        apt-mark hold m-b; dpkg -r m-host
        echo 'rb-asked rb-asked/two string two words' | debconf-set-selections
        mkdir -p /etc/apt/keyrings; printf 'key\\377' > /etc/apt/keyrings/k.gpg
        printf '# by hand\\n' > /etc/apt/sources.list.d/more.list
        printf 'it'\\''s\\n' > /etc/by-hand; chmod 755 /etc/by-hand; echo edited > /etc/m-a.conf
        ln -s /etc/by-hand /usr/local/link; echo secret > /etc/secret; chmod 600 /etc/secret
        head -c 20000 /dev/zero > /opt/large; mkdir /srv/many; touch $(seq -f /srv/many/%g 30)
        """
    )
    for options in ((), ("--exact",)):
        result = succeeded(project.tool.run("freeze", *options, "test"))
        assert "left out; see the list at the end" in result.stderr
        for left_out in (
            "/etc/secret: it is not readable by everybody",
            "/opt/large: 20000 bytes",
            "/srv/many/: 30 files",
        ):
            assert f"#   {left_out}" in result.stdout
        project.file.write_text(result.stdout)
        other = Project(project.machine, project.directory, f"other{len(options)}")
        done = other.done()
        assert ("file", "/etc/m-a.conf") in done
        packages = [succeeded(project.tool.run("diff", "--packages", name)).stdout for name in ("test", other.name)]
        assert packages[0] == packages[1] != ""
        again = succeeded(project.tool.run("freeze", *options, other.name)).stdout
        carried, _, left = result.stdout.partition("# Left out")
        assert again.partition("# Left out")[0].rstrip() == carried.replace('"test"', f'"{other.name}"').rstrip()
        assert left
        check = """
            cat /etc/by-hand /etc/m-a.conf; stat -c %a /etc/by-hand; readlink /usr/local/link; apt-mark showhold
            debconf-show rb-asked | sort
        """
        assert other.environment.sh(check) == project.environment.sh(check)
        other.assert_matches()


@pytest.mark.modes("full")
def test_refused(project: Project) -> None:
    """Another system, an environment that runs; what only looks may do so."""
    project.write('release = "plan9/4"')
    refused(project.sync("--yes"), 1, "is for the release plan9/4, this system is ", "--force")
    project.write('release = "plan9/4"\npackages = ["m-a"]')
    succeeded(project.sync("--yes", "--force"))
    session = project.tool.start("exec", "test", "--", "sh", "-c", "echo ready; exec sleep 300")
    line(session)
    project.write('packages = ["m-b"]')
    refused(project.sync("--yes"), 1, "test is running: ", "sysenv-ns stop test")
    assert project.sync("--check").returncode == 1
    assert "m-a" in succeeded(project.tool.run("freeze", "test")).stdout
    session.kill()
    finish(session)
    assert project.states()["m-a"] == "ii 1"
    project.write("packges = []")
    refused(project.sync("--yes"), 1, "unknown key 'packges' (line 1)", "did you mean packages?")


@pytest.mark.modes("full")
def test_snapshots_stay_what_they_are(project: Project) -> None:
    """What a sync was, goes and comes back with the state."""
    project.write('packages = ["m-b=1"]\n[[scripts]]\nrun = "date +%N >> /opt/runs"\n')
    project.done()
    succeeded(project.tool.run("snapshot", "test", "one"))
    runs = project.environment.sh("cat /opt/runs")
    project.write('packages = ["m-b=2"]\n[[scripts]]\nrun = "echo other >> /opt/runs"\n')
    project.done()
    assert project.states()["m-b"] == "ii 2"
    succeeded(project.tool.run("rollback", "test", "one"))
    assert project.environment.sh("cat /opt/runs; m-b") == f"{runs}m-b 1\n"
    assert [kind for kind, _ in project.done()] == ["install", "script"]
    project.assert_matches()
    assert project.environment.sh("cat /opt/runs") == f"{runs}other\n"


@pytest.fixture
def made(tool: Tool) -> Iterator[Environment]:
    """The name of an environment that a test makes."""
    environment = tool.environment("made-here")
    yield environment
    if (tool.store / "envs" / environment.name).exists():
        tool.end(environment.name)


@pytest.mark.modes("full")
def test_a_shell_in_a_directory(made: Environment) -> None:
    """It asks, makes the environment with a package of the system's own repositories, and says what has changed."""
    tool, directory = made.tool, made.tool.account.home / "project" / "deep"
    directory.mkdir(parents=True, exist_ok=True)
    file = directory.parent / "sysenv.toml"
    file.write_text('name = "made-here"\npackages = ["hello"]\n')
    for path in (file, directory, directory.parent):
        os.chown(path, tool.account.uid, tool.account.gid)
    refused(tool.run("shell", *tool.options, cwd=directory), 125, "cannot ask for confirmation", "give --yes")
    options = " ".join(tool.options)
    terminal = spawn(made, "sh", "-c", f"cd project/deep && exec {tool.launcher} shell --root {options}")
    terminal.expect("package  hello")
    terminal.expect("Continue")
    terminal.sendline("n")
    terminal.expect("made-here was not changed")
    terminal.expect(pexpect.EOF)
    assert tool.run("status", made.name).returncode == 1
    terminal = spawn(made, "sh", "-c", f"cd project/deep && exec {tool.launcher} shell --root {options}")
    terminal.expect("Continue")
    terminal.sendline("y")
    terminal.timeout = BASE_LIMIT
    terminal.expect("made-here matches ")
    terminal.sendline("hello; exit")
    terminal.expect("Hello, world!")
    terminal.expect(pexpect.EOF)
    same = succeeded(tool.run("shell", "--root", cwd=directory, stdin="hello\n"))
    assert (same.stdout, same.stderr) == ("Hello, world!\n", "")
    file.write_text('name = "made-here"\npackages = ["hello", "cowsay"]\n')
    changed = succeeded(tool.run("shell", "--root", cwd=directory, stdin="hello\n"))
    assert changed.stderr == f"sysenv-ns: {file} has changed; to apply the changes: sysenv-ns sync\n"
