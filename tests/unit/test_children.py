"""What comes back from a child."""

from __future__ import annotations

import errno
import os

import pytest

from sysenv_ns.kernel import children


def test_an_error_of_a_call_on_a_descriptor_comes_back() -> None:
    def fail() -> None:
        os.setxattr(os.open("/proc/self/status", os.O_RDONLY), "user.test", b"")

    with pytest.raises(OSError, match="descriptor") as raised:
        children.call(fail, "test-child")
    assert raised.value.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES)
