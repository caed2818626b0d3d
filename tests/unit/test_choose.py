"""Which drivers are tried for a new environment, in which order, and what is asked before."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sysenv_ns import policy
from sysenv_ns.drivers import choose, driver, probe
from sysenv_ns.drivers.copy import CopyDriver
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import Declined, SysenvError
from sysenv_ns.files import sizes
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.reporter import Ask

_MAP = IdMap("full", (), (), 1000, 1000)


@dataclass
class Trials:
    """What has been asked and tried; `working` works when it is tried."""

    working: str = ""
    asked: list[tuple[str, bool]] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    declined: frozenset[str] = frozenset()

    def get(self, name: str) -> Agreeing:
        """Stands for driver.get."""
        return Agreeing(name, self)

    def try_driver(self, store: Store, tried: Agreeing, id_map: IdMap | None, then: object) -> None:
        """Stands for probe.try_driver."""
        self.tried.append(tried.name)
        if tried.name != self.working:
            raise SysenvError(f"{tried.name} does not work")


@dataclass
class Agreeing:
    """A driver, as far as it is asked here."""

    name: str
    trials: Trials
    asks = False

    def agree(self, store: Store, ask: Ask | None, by_name: bool) -> None:
        """See Driver."""
        self.trials.asked.append((self.name, by_name))
        if self.name in self.trials.declined:
            raise Declined(f"{self.name} was declined")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    """The drivers of an ordinary user, none of which works."""
    found = Trials()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(driver, "get", found.get)
    monkeypatch.setattr(probe, "try_store", lambda store: None)
    monkeypatch.setattr(probe, "try_driver", found.try_driver)
    monkeypatch.setattr(choose, "id_map_of", lambda kind: _MAP)
    monkeypatch.setattr(choose, "try_map", lambda id_map: None)
    return found


def test_the_best_one_that_works(store: Store, trials: Trials) -> None:
    trials.working = "fuse"
    assert choose.choose(store, "auto", "auto", None)[0] == "fuse"
    assert list(dict.fromkeys(trials.tried)) == ["stub", "reflink", "idmap", "copy", "fuse"]
    assert list(policy.DRIVERS) == ["stub", "reflink", "idmap", "copy", "fuse", "root"]
    assert not any(by_name for _, by_name in trials.asked)


def test_nobody_is_asked_twice(store: Store, trials: Trials) -> None:
    """Not for each id map; what was declined is not tried."""
    trials.working, trials.declined = "fuse", frozenset({"idmap", "copy"})
    assert choose.choose(store, "auto", "auto", None)[0] == "fuse"
    assert [name for name, _ in trials.asked].count("copy") == 1
    assert {"idmap", "copy"}.isdisjoint(trials.tried)


def test_who_names_a_driver(store: Store, trials: Trials) -> None:
    trials.working = "copy"
    assert choose.choose(store, "copy", "auto", None)[0] == "copy"
    assert trials.asked == [("copy", True)]
    trials.declined = frozenset({"idmap"})
    with pytest.raises(Declined):
        choose.choose(store, "idmap", "auto", None)
    with pytest.raises(SysenvError, match="no single id map"):
        choose.choose(store, "idmap", "single", None)


@pytest.fixture
def large_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a gigabyte in each of its directories."""
    monkeypatch.setattr(sizes, "of_contents", lambda directory, without: 10**9 if directory == "/usr" else 0)


@pytest.mark.parametrize("answer", [True, False])
def test_copy_asks_with_the_room_that_it_takes(store: Store, large_system: None, answer: bool) -> None:
    store.prepare()
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    if answer:
        CopyDriver().agree(store, ask, by_name=False)
    else:
        with pytest.raises(Declined):
            CopyDriver().agree(store, ask, by_name=False)
    assert ["1.0 GB of the" in question for question in questions] == [True]


def test_copy_where_there_is_no_room_or_no_need_to_ask(
    store: Store, large_system: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(question: str) -> bool:
        raise AssertionError(question)

    store.prepare()
    CopyDriver().agree(store, never, by_name=True)
    with pytest.raises(Declined):
        CopyDriver().agree(store, None, by_name=False)
    status = os.statvfs(store.path)
    full = os.statvfs_result((*status[:4], 1000, *status[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(Declined):
        CopyDriver().agree(store, never, by_name=False)
    Path(store.base, "copy-full-12345678").mkdir()
    CopyDriver().agree(store, never, by_name=False)
