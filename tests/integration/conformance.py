"""Checks of what a file system promises; run by name in a directory of host files, and in a plain copy of it.

A program of its own, which imports nothing of the tests: `conformance.py DIRECTORY` prints a JSON object of results.
A check gets a directory of its own: `small` (10 bytes), `large` (100 kB), `one` and `two` (names of one file), `link`
(to small), `sub/inner`, `sub/deep/leaf`. Its result holds nothing that differs between two plain file systems.
"""

import contextlib
import errno
import fcntl
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

_Check = Callable[[], Any]
CHECKS: dict[str, _Check] = {}
LAYOUT = ("small", "large", "one", "two", "link", "sub/inner", "sub/deep/leaf")


def check(function: _Check) -> _Check:
    """Note a check by its name."""
    CHECKS[function.__name__] = function
    return function


def error(action: Callable[[], Any]) -> str:
    """The name of the errno that it ends with."""
    try:
        action()
    except OSError as failure:
        return errno.errorcode.get(failure.errno or 0, "?")
    return ""


@contextlib.contextmanager
def opened(path: str, flags: int = os.O_RDWR) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def content(path: str) -> str:
    with open(path, "rb") as stream:
        return stream.read(64).decode()


def same(one: str, two: str) -> bool:
    return os.path.samestat(os.lstat(one), os.lstat(two))


def write(path: str, text: str, mode: str = "w") -> None:
    with open(path, mode) as stream:
        stream.write(text)


def kept(path: str) -> tuple[int, int, int, int]:
    status = os.lstat(path)
    return status.st_mode, status.st_size, status.st_uid, status.st_gid


@check
def open_read() -> Any:
    return content("small"), os.stat("large").st_size


@check
def open_write_in_the_middle() -> Any:
    with opened("large") as file:
        os.pwrite(file, b"X", 50_000)
        return os.pread(file, 3, 49_999), os.fstat(file).st_size


@check
def open_append() -> Any:
    with opened("small", os.O_WRONLY | os.O_APPEND) as file:
        os.write(file, b"more")
    return content("small")


@check
def open_append_to_a_large_one() -> Any:
    with opened("large", os.O_WRONLY | os.O_APPEND) as file:
        os.write(file, b"more")
    return os.stat("large").st_size


@check
def open_truncating() -> Any:
    write("large", "new")
    return content("large")


@check
def open_exclusive() -> Any:
    return error(lambda: os.open("small", os.O_CREAT | os.O_EXCL | os.O_WRONLY))


@check
def open_a_directory_for_writing() -> Any:
    return error(lambda: os.open("sub", os.O_WRONLY)), error(lambda: os.open("small", os.O_DIRECTORY))


@check
def open_without_following() -> Any:
    return error(lambda: os.open("link", os.O_RDONLY | os.O_NOFOLLOW))


@check
def open_through_a_link() -> Any:
    write("link", "through")
    return content("small"), os.readlink("link")


@check
def open_unnamed_and_link_it() -> Any:
    with opened(".", os.O_TMPFILE | os.O_RDWR) as file:
        os.write(file, b"unnamed")
        os.link(f"/proc/self/fd/{file}", "named", src_dir_fd=file)  # which makes it follow
    return content("named"), os.stat("named").st_nlink


@check
def open_for_reading_before_a_write() -> Any:
    with opened("small", os.O_RDONLY) as reading:
        write("small", "+", "a")
        return os.pread(reading, 20, 0)


@check
def open_twice_for_writing() -> Any:
    with opened("small") as one, opened("small") as two:
        os.pwrite(one, b"1", 0)
        os.pwrite(two, b"2", 1)
        return os.pread(two, 2, 0), os.pread(one, 2, 0)


@check
def truncate_by_name() -> Any:
    os.truncate("large", 5)
    return os.stat("large").st_size, content("large")


@check
def truncate_to_more() -> Any:
    os.truncate("small", 20)
    return content("small")


@check
def truncate_an_open_one() -> Any:
    with opened("large") as file:
        os.ftruncate(file, 3)
        return os.fstat(file).st_size, os.stat("large").st_size


@check
def allocate() -> Any:
    with opened("small") as file:
        os.posix_fallocate(file, 0, 4096)
        return os.fstat(file).st_size


@check
def copy_range() -> Any:
    with opened("large", os.O_RDONLY) as source, opened("small") as target:
        return os.copy_file_range(source, target, 100, 0, 10), os.fstat(target).st_size


@check
def seek_data() -> Any:
    with opened("large", os.O_RDONLY) as file:
        return os.lseek(file, 0, os.SEEK_DATA), os.lseek(file, 0, os.SEEK_HOLE)


@check
def rename_over_a_new_name() -> Any:
    os.rename("small", "other")
    return content("other"), sorted(os.listdir("."))


@check
def rename_over_an_old_one() -> Any:
    os.rename("small", "large")
    return content("large"), os.path.exists("small")


@check
def replace_by_a_new_file() -> Any:
    write("fresh", "fresh")
    os.rename("fresh", "small")
    return content("small")


@check
def replace_keeps_what_is_open() -> Any:
    with opened("large", os.O_RDONLY) as file:
        write("fresh", "fresh")
        os.rename("fresh", "large")
        return os.fstat(file).st_size, os.fstat(file).st_nlink


@check
def rename_into_a_directory() -> Any:
    os.rename("small", "sub/small")
    return sorted(os.listdir("sub"))


@check
def rename_a_symbolic_link() -> Any:
    os.rename("link", "moved")
    return os.readlink("moved"), content("moved")


@check
def rename_two_names_of_one_file() -> Any:
    """POSIX: nothing happens."""
    os.rename("one", "two")
    return os.path.exists("one"), os.path.exists("two")


@check
def rename_a_directory() -> Any:
    os.rename("sub", "moved")
    return sorted(os.listdir("moved")), os.path.exists("sub"), content("moved/deep/leaf"), kept("moved")[0]


@check
def rename_a_directory_and_back() -> Any:
    os.rename("sub", "moved")
    os.rename("moved", "sub")
    return sorted(os.listdir("sub")), content("sub/inner")


@check
def rename_a_directory_over_an_empty_one() -> Any:
    os.mkdir("empty")
    os.rename("sub", "empty")
    return sorted(os.listdir("empty"))


@check
def rename_a_directory_over_a_full_one() -> Any:
    os.mkdir("full")
    write("full/x", "")
    return error(lambda: os.rename("sub", "full")), sorted(os.listdir("sub"))


@check
def rename_a_directory_over_a_file() -> Any:
    return error(lambda: os.rename("sub", "small")), error(lambda: os.rename("small", "sub"))


@check
def rename_a_directory_into_itself() -> Any:
    return error(lambda: os.rename("sub", "sub/deep/sub"))


@check
def rename_a_directory_up() -> Any:
    os.rename("sub/deep", "deep")
    return sorted(os.listdir("sub")), content("deep/leaf")


@check
def rename_a_directory_with_what_is_open() -> Any:
    with opened("sub/inner") as file:
        os.pwrite(file, b"!", 0)
        os.rename("sub", "moved")
        os.pwrite(file, b"?", 1)
        return content("moved/inner")[:2]


@check
def rename_a_directory_keeps_its_number() -> Any:
    before = os.stat("sub").st_ino
    os.rename("sub", "moved")
    return os.stat("moved").st_ino == before


@check
def rename_by_mv() -> Any:
    subprocess.run(["mv", "-T", "sub", "moved"], check=True)
    return sorted(os.listdir("moved"))


@check
def link_and_compare() -> Any:
    os.link("small", "other")
    return same("small", "other"), os.stat("small").st_nlink, content("other")


@check
def link_of_a_large_one() -> Any:
    os.link("large", "other")
    return same("large", "other"), os.stat("other").st_size, os.stat("large").st_nlink


@check
def link_and_write() -> Any:
    os.link("small", "other")
    write("other", "+", "a")
    return content("small"), content("other")


@check
def link_and_copy_onto_itself() -> Any:
    os.link("small", "other")
    return subprocess.run(["cp", "small", "other"], check=False, capture_output=True).returncode, content("small")


@check
def link_and_rename() -> Any:
    os.link("small", "other")
    os.rename("other", "small")
    return os.path.exists("small"), os.path.exists("other")


@check
def link_keeps_everything() -> Any:
    before, time_before = kept("large"), os.stat("large").st_mtime_ns
    os.link("large", "other")
    return kept("large") == before == kept("other"), os.stat("other").st_mtime_ns == time_before


@check
def link_over_a_name() -> Any:
    return error(lambda: os.link("small", "large")), error(lambda: os.link("sub", "other"))


@check
def link_of_a_symbolic_link() -> Any:
    os.link("link", "other", follow_symlinks=False)
    return os.readlink("other"), os.lstat("link").st_nlink


@check
def link_of_what_is_changed() -> Any:
    write("small", "+", "a")
    os.link("small", "other")
    return same("small", "other"), content("other")


@check
def link_of_what_has_two_names() -> Any:
    os.link("one", "three")
    return same("one", "three"), content("three")


@check
def write_to_one_of_two_names() -> Any:
    write("one", "changed")
    return content("two"), os.stat("one").st_nlink, same("one", "two")


@check
def two_names_are_one_file() -> Any:
    return same("one", "two"), os.stat("one").st_nlink


@check
def unlink_one_of_two_names() -> Any:
    os.unlink("one")
    return content("two"), os.stat("two").st_nlink


@check
def unlink_and_use() -> Any:
    with opened("large") as file:
        os.unlink("large")
        os.pwrite(file, b"X", 0)
        return os.fstat(file).st_nlink, os.pread(file, 1, 0), os.path.exists("large")


@check
def unlink_and_make_again() -> Any:
    os.unlink("small")
    os.mkdir("small")
    return os.listdir("small")


@check
def remove_a_directory_that_is_full() -> Any:
    return error(lambda: os.rmdir("sub")), error(lambda: os.unlink("sub"))


@check
def remove_a_tree_and_make_it_again() -> Any:
    subprocess.run(["rm", "-r", "sub"], check=True)
    os.mkdir("sub")
    return os.listdir("sub")


@check
def attributes() -> Any:
    os.setxattr("small", "user.x", b"1")
    os.setxattr("sub", "user.y", b"2")
    os.setxattr("small", "user.x", b"3", os.XATTR_REPLACE)
    return os.getxattr("small", "user.x"), os.listxattr("small"), os.getxattr("sub", "user.y")


@check
def attributes_that_are_not_there() -> Any:
    return error(lambda: os.getxattr("small", "user.none")), error(lambda: os.removexattr("large", "user.none"))


@check
def attributes_survive_a_write() -> Any:
    os.setxattr("large", "user.x", b"1")
    write("large", "+", "a")
    os.rename("large", "other")
    return os.getxattr("other", "user.x")


@check
def map_private() -> Any:
    with opened("large", os.O_RDONLY) as file, mmap.mmap(file, 100, access=mmap.ACCESS_COPY) as mapped:
        mapped[0] = 64
        return mapped[0], os.pread(file, 1, 0)


@check
def map_shared() -> Any:
    with opened("large") as file, mmap.mmap(file, 100) as mapped:
        mapped[0] = 64
        return os.pread(file, 1, 0), content("large")[:1]


@check
def map_before_another_writes() -> Any:
    """What was mapped before the file is copied up shows the old content."""
    with opened("large", os.O_RDONLY) as file, mmap.mmap(file, 100, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        with opened("large") as other:
            os.pwrite(other, b"@", 0)
        return mapped[0]


@check
def mode_and_times() -> Any:
    os.chmod("large", 0o4750)
    os.utime("large", ns=(5, 7))
    return kept("large")[:2], os.stat("large").st_mtime_ns


@check
def mode_keeps_the_content() -> Any:
    os.chmod("large", 0o600)
    os.chmod("sub", 0o711)
    return os.stat("large").st_size, content("large")[:5], kept("sub")[0]


@check
def writing_clears_set_user_id() -> Any:
    os.chmod("small", 0o4755)
    subprocess.run(["sh", "-c", "echo x >> small"], check=True)
    return kept("small")[0]


@check
def a_write_changes_the_time() -> Any:
    before = os.stat("small").st_mtime_ns
    time.sleep(0.02)
    write("small", "+", "a")
    return os.stat("small").st_mtime_ns > before


@check
def number_of_a_file_that_is_written_to() -> Any:
    before = os.stat("small").st_ino
    write("small", "+", "a")
    return os.stat("small").st_ino == before


@check
def locks() -> Any:
    with opened("small") as one, opened("small") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        return error(lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))


@check
def lock_of_what_is_opened_for_reading_before_a_write() -> Any:
    with opened("small", os.O_RDONLY) as one:
        fcntl.flock(one, fcntl.LOCK_EX)
        with opened("small") as two:
            return error(lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))


@check
def listing_while_names_go() -> Any:
    names = []
    with os.scandir(".") as entries:
        for entry in entries:
            names.append(entry.name)
            if entry.name == "small":
                os.unlink("small")
    return sorted(names), sorted(os.listdir("."))


@check
def kinds_in_a_listing() -> Any:
    return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in os.scandir("."))


@check
def numbers_in_a_listing() -> Any:
    return all(entry.inode() == os.lstat(entry.name).st_ino for entry in os.scandir("."))


def make(directory: str) -> None:
    """The directories that the checks get."""
    for name in CHECKS:
        os.makedirs(f"{directory}/{name}/sub/deep")
        os.chdir(f"{directory}/{name}")
        write("small", "0123456789")
        write("large", "x" * 100_000)
        write("one", "of two")
        os.link("one", "two")
        os.symlink("small", "link")
        write("sub/inner", "inner")
        write("sub/deep/leaf", "leaf")


def main(directory: str) -> None:
    """Print what all checks find."""
    found = {}
    for name, function in CHECKS.items():
        os.chdir(f"{directory}/{name}")
        try:
            found[name] = repr(function())
        except Exception as failure:
            found[name] = f"failed: {type(failure).__name__}: {getattr(failure, 'strerror', None) or failure}"
    print(json.dumps(found))


if __name__ == "__main__":
    make(sys.argv[2]) if sys.argv[1] == "make" else main(sys.argv[1])
