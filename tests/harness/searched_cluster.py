"""A cluster in this process, and a host that looks for sites in it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.machines.sites.remote_site import RemoteSite
from pipeline.machines.sites.site_link import SiteUnavailable
from pipeline.machines.sites.site_search import FoundSite, SiteSearch
from tests.harness.site_harness import RecordedBells, SiteHarness
from tests.harness.waiting import eventually


class SearchedCluster:
    """A cluster whose members are in this process, and a host that looks for sites in it."""

    def __init__(self, folder: Path, *established: str) -> None:
        self._folder = folder
        self.sites: dict[str, SiteHarness] = {}
        self.members: dict[str, FoundSite] = {}
        self.problem: str | Exception = ""  #: why the cluster does not answer, or what fails here
        self.looks = 0
        self.before_look: Callable[[], object] = lambda: None
        self.known: list[RemoteSite] = []  #: sites that the host uses
        self.taken: list[str] = []  #: names of its other workers
        self.search = SiteSearch(self._find, RecordedBells(), established)

    def add(self, name: str, *workers: str) -> SiteHarness:
        """A member of the cluster; by default its only worker is named after it."""
        site = self.sites[name] = SiteHarness(self._folder / name, name, workers=workers or (f"{name}-0",))

        def connect() -> RemoteSite:
            site.limit()
            return site.site

        self.members[name] = FoundSite(name, connect)
        return site

    def appeared(self) -> list[str]:
        """The sites that can be used now."""
        return [site.name for site in self.search.appeared(self.known, self.taken)]

    def use(self) -> None:
        """Takes all of them."""
        for site in self.search.appeared(self.known, self.taken):
            self.search.take(site)
            self.known.append(site)

    def look_again(self, times: int = 3) -> None:
        """Comes back after so many looks, each of which was taken notice of."""
        for _ in range(times):
            until = self.looks + 2  # the first of them may have begun before
            assert eventually(partial(self._has_looked, until))
            self.appeared()

    def end_search(self) -> None:
        """Ends it as a farm does that is closed."""
        for remote in self.search.close():
            remote.close()

    def close(self) -> None:
        self.end_search()
        for site in self.sites.values():
            site.close()

    def _has_looked(self, times: int) -> bool:
        return self.looks >= times

    def _find(self) -> list[FoundSite]:
        self.looks += 1
        self.before_look()
        if isinstance(self.problem, Exception):
            raise self.problem
        if self.problem:
            raise SiteUnavailable(self.problem)
        return list(self.members.values())
