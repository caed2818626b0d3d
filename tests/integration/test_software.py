"""Software that comes without a Debian package: make install, the languages' own managers, a vendor's installer."""

from __future__ import annotations

import io
import tarfile
import textwrap
from pathlib import Path

import pytest

from .mirror import Mirror
from .support import APT_LIMIT, Environment, describe

pytestmark = pytest.mark.modes("full", more=("single",))

# Stops a script that is about to change another system than the environment's; sudo drops SYSENV_NS.
_GUARD = 'grep -qx "$NAME" /etc/debian_chroot || exit 99\n'
_WORK = "/srv/work"


def _identity(environment: Environment) -> str:
    """Whoever installs software is the user where possible, and root where nobody else exists."""
    return "--me" if environment.tool.mode == "full" else ""


def _install(environment: Environment, script: str, **keywords: object) -> str:
    """The output of a script in the user's directory for builds; it takes sudo for what needs root."""
    directory = f"sudo -n install -d -o $(id -u) -g $(id -g) {_WORK}; cd {_WORK}"
    head = f"NAME={environment.name}\n{_GUARD}{directory}\n"
    return environment.sh(head + script, identity=_identity(environment), **keywords)


def _need(environment: Environment, mirror: Mirror, **packages: str) -> None:
    """Programs, from these packages where the host has none."""
    missing = [names for program, names in packages.items() if environment.exec("which", program).returncode]
    if missing:
        mirror.install(environment, "--no-install-recommends", *" ".join(missing).split())


def _in_next_session(environment: Environment, command: str) -> str:
    """The output of a command in a session for which everything is mounted anew."""
    assert environment.tool.status(environment.name)["running"] is False
    return environment.sh(command, identity=_identity(environment))


def _gone(environment: Environment, *paths: str) -> bool:
    return environment.exec("sh", "-c", 'for p; do [ ! -e "$p" ] || exit 1; done', "sh", *paths).returncode == 0


def _not_on_host(*paths: str) -> bool:
    return not any(Path(path).exists() for path in paths)


# Adds the sources of the archive that hello comes from, in either of apt's formats.
_ENABLE_SOURCES = """
archive=$(apt-cache policy hello | awk '$3 ~ "/main$" { print $2; exit }')
for file in $(grep -lF "$archive" /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null); do
    case $file in
        *.sources) sed -i 's/^Types: deb$/& deb-src/' "$file" ;;
        *) sed -i 's/^deb \\(.*\\)/&\\ndeb-src \\1/' "$file" ;;
    esac
done
"""


def test_make_install(environment: Environment, mirror: Mirror) -> None:
    _need(environment, mirror, gcc="gcc libc6-dev", make="make", **{"dpkg-source": "dpkg-dev"})
    if not environment.sh("apt-cache policy hello"):
        environment.apt("update")
    environment.sh(_ENABLE_SOURCES)
    environment.apt("update")
    _install(environment, "apt-get -q source hello; cd hello-*/; ./configure -q; make -s -j2", limit=APT_LIMIT)
    _install(environment, "cd hello-*/; sudo -n make -s install")
    paths = ("/usr/local/bin/hello", "/usr/local/share/man/man1/hello.1", "/usr/local/share/info/hello.info")
    assert _in_next_session(environment, "command -v hello; hello").splitlines() == [paths[0], "Hello, world!"]
    assert environment.sh('stat -c %U:%a "$@"', *paths).splitlines() == ["root:755", "root:644", "root:644"]
    assert _not_on_host(*paths)
    _install(environment, "cd hello-*/; sudo -n make -s uninstall")
    assert _gone(environment, *paths)


def test_pip(environment: Environment, mirror: Mirror) -> None:
    _need(environment, mirror, pip3="python3-pip")
    _install(environment, "sudo -n /usr/bin/pip3 install -q --break-system-packages cowsay", limit=APT_LIMIT)
    assert "| moo |" in _in_next_session(environment, "/usr/local/bin/cowsay -t moo")
    place = environment.sh("cd /; /usr/bin/python3 -c 'import cowsay; print(cowsay.__path__[0])'").strip()
    assert place.startswith("/usr/local/lib/python3")
    assert _not_on_host("/usr/local/bin/cowsay", place)
    _install(environment, "sudo -n /usr/bin/pip3 uninstall -q -y --break-system-packages cowsay")
    assert _gone(environment, "/usr/local/bin/cowsay", place)


@pytest.mark.slow
def test_npm(environment: Environment, mirror: Mirror) -> None:
    _need(environment, mirror, npm="npm")
    _install(environment, "sudo -n npm install -g --no-audit --no-fund semver@7.6.3", limit=APT_LIMIT)
    assert _in_next_session(environment, "semver -i minor 1.2.3") == "1.3.0\n"
    paths = environment.sh("command -v semver; echo $(npm root -g)/semver").split()
    assert _not_on_host(*paths)
    # In the single map root's home is the user's.
    assert (environment.tool.account.home / ".npm").exists() == (environment.tool.mode == "single")
    _install(environment, "sudo -n npm uninstall -g semver")
    assert _gone(environment, *paths)


_GEMSPEC = """
Gem::Specification.new do |it|
  it.name, it.version, it.summary, it.authors = "greet", "1", "Greets", ["nobody"]
  it.files = ["bin/greet-gem"]
  it.executables = ["greet-gem"]
end
"""


def test_gem(environment: Environment, mirror: Mirror) -> None:
    _need(environment, mirror, gem="ruby")
    _install(
        environment,
        "mkdir bin; echo 'puts :hello' > bin/greet-gem; cat > greet.gemspec; gem build greet.gemspec",
        stdin=_GEMSPEC,
    )
    _install(environment, "sudo -n gem install --local ./greet-1.gem")
    assert _in_next_session(environment, "greet-gem") == "hello\n"
    paths = environment.sh("command -v greet-gem; gem contents greet").split()
    assert len(paths) == 2
    assert _not_on_host(*paths)
    _install(environment, "sudo -n gem uninstall -x greet")
    assert _gone(environment, *paths)


@pytest.mark.slow
def test_cargo(environment: Environment, mirror: Mirror) -> None:
    _need(environment, mirror, cargo="cargo")
    main = 'fn main() { println!("hello"); }'
    _install(
        environment,
        """
        cargo init -q --vcs none --name greet-crate greet
        cat > greet/src/main.rs
        sudo -n cargo install -q --root /usr/local --path greet
        """,
        stdin=main,
        limit=APT_LIMIT,
    )
    assert _in_next_session(environment, "command -v greet-crate; greet-crate").split() == [
        "/usr/local/bin/greet-crate",
        "hello",
    ]
    assert _not_on_host("/usr/local/bin/greet-crate", "/usr/local/.crates.toml")
    _install(environment, "sudo -n cargo uninstall -q --root /usr/local greet-crate")
    assert _gone(environment, "/usr/local/bin/greet-crate")


@pytest.mark.modes("full", "single")
def test_archive_with_owners_that_nobody_has(environment: Environment) -> None:
    """Directory servers hand out such ids, and so the archives of their users hold them."""
    _install(environment, "echo hello > file; tar --owner=someone:1203400500 --group=someone:70000 -cf a.tar file")
    result = environment.exec("tar", "-C", "/opt", "-xf", f"{_WORK}/a.tar")
    # The full map has 65536 ids, and tar says what it could not do; the single map pretends.
    full = environment.tool.mode == "full"
    assert result.returncode == (2 if full else 0), describe(result)
    assert ("Cannot change ownership to uid 1203400500" in result.stderr) is full
    assert environment.sh("cat /opt/file; stat -c %u:%g /opt/file").splitlines() == ["hello", "0:0"]


@pytest.mark.modes("full", "single")
def test_user_is_removed_with_the_home(environment: Environment) -> None:
    environment.sh("useradd --system --home-dir /srv/sailor --create-home sailor; touch /srv/sailor/file")
    result = environment.exec("userdel", "--remove", "sailor")
    assert environment.exec("getent", "passwd", "sailor").returncode == 2
    # In the single map the home is root's, and userdel leaves alone what is not the user's.
    full = environment.tool.mode == "full"
    assert result.returncode == (0 if full else 12), describe(result)
    assert _gone(environment, "/srv/sailor") is full


_VENDOR_USER = "acme-daemon"
_VENDOR_PATHS = (
    "/opt/acme",
    "/usr/local/bin/acme",
    "/etc/profile.d/acme.sh",
    "/usr/share/applications/acme.desktop",
    "/var/lib/acme",
)
_INSTALLER = """\
#!/bin/sh
set -e
[ "$(id -u)" = 0 ] || { echo "run this as root" >&2; exit 1; }
mkdir -p /opt/acme
sed '1,/^PAYLOAD$/d' "$0" | tar -xz -C /opt/acme
ln -s /opt/acme/bin/acme /usr/local/bin/acme
echo 'export ACME_HOME=/opt/acme' > /etc/profile.d/acme.sh
install -m 644 /opt/acme/acme.desktop /usr/share/applications/acme.desktop
useradd --system --home-dir /var/lib/acme --create-home --shell /usr/sbin/nologin acme-daemon
chmod 750 /var/lib/acme
install -o root -g acme-daemon -m 4755 /usr/bin/id /opt/acme/bin/acme-helper
exit 0
PAYLOAD
"""
_PAYLOAD = {
    "bin/acme": "#!/bin/sh\necho acme 1.0; exec /opt/acme/bin/acme-helper -u\n",
    "acme.desktop": "[Desktop Entry]\nType=Application\nName=Acme\nExec=/opt/acme/bin/acme\n",
    "uninstall": textwrap.dedent(
        f"""\
        #!/bin/sh
        set -e
        userdel {_VENDOR_USER}
        rm -rf {" ".join(_VENDOR_PATHS)}
        """
    ),
}
_BUILDER = 4711  # the owner of the files at the vendor's


def _installer(environment: Environment) -> str:
    """The path of the installer inside."""
    payload = io.BytesIO()
    with tarfile.open(fileobj=payload, mode="w:gz") as archive:
        for name, content in _PAYLOAD.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid = len(content), 0o755, _BUILDER
            archive.addfile(member, io.BytesIO(content.encode()))
    head = _INSTALLER.replace("set -e\n", f"set -e\nNAME={environment.name}\n{_GUARD}", 1)
    program = head.encode() + payload.getvalue()
    _install(environment, "cat > acme.run", stdin=program.decode("utf-8", "surrogateescape"))
    return f"{_WORK}/acme.run"


@pytest.mark.modes("full", "single")
def test_installer_of_a_vendor(environment: Environment) -> None:
    full = environment.tool.mode == "full"
    program = _installer(environment)
    if full:
        refused = environment.exec("sh", program, identity="--me")
        assert (refused.returncode, refused.stderr) == (1, "run this as root\n"), describe(refused)
    _install(environment, f"sudo -n sh {program}")
    # The helper is setuid root: it says who it runs as.
    assert _in_next_session(environment, "acme").splitlines() == ["acme 1.0", "0"]
    assert environment.sh("bash -lc 'echo $ACME_HOME'") == "/opt/acme\n"
    assert environment.sh('for path; do [ -e "$path" ] || echo "$path"; done', *_VENDOR_PATHS) == ""
    assert environment.sh(f"getent passwd {_VENDOR_USER}").endswith(":/var/lib/acme:/usr/sbin/nologin\n")
    owners = environment.sh("stat -c %U:%G:%a /opt/acme/bin/acme-helper /var/lib/acme; stat -c %u /opt/acme/uninstall")
    assert owners.splitlines() == (
        [f"root:{_VENDOR_USER}:4755", f"{_VENDOR_USER}:{_VENDOR_USER}:750", str(_BUILDER)]
        if full
        else ["root:root:4755", "root:root:750", "0"]
    )
    assert _not_on_host(*_VENDOR_PATHS)
    assert _VENDOR_USER not in Path("/etc/passwd").read_text()
    _install(environment, "sudo -n /opt/acme/uninstall")
    assert _gone(environment, *_VENDOR_PATHS)
    assert environment.exec("getent", "passwd", _VENDOR_USER).returncode == 2


def test_sudo_keeps_the_name_of_the_environment(environment: Environment) -> None:
    """An installer that is run with sudo can ask where it is."""
    name = environment.sh("sudo -n sh -c 'echo $SYSENV_NS'", identity=_identity(environment))
    assert name == f"{environment.name}\n"
