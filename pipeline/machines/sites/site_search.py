"""Sites that appear in a cluster while a farm is open: they are looked for, and connected before they are reported.

Owns: how often the cluster is asked, how many sites a farm may have, and that a site that cannot be used is named once.
Threads: one of its own asks the cluster, because that may take seconds; all methods belong to the control loop's.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from inbox_agent.protocol.layout import clean
from pipeline.machines.sites.interface import Bells
from pipeline.machines.sites.remote_site import RemoteSite
from pipeline.machines.sites.site_link import SiteUnavailable

log = logging.getLogger(__name__)

SEARCH_INTERVAL_S = 5.0  #: between two questions to the cluster
SITES_MAX = 256  #: each takes a thread and a few connections of the host
SITE_WORKERS_MAX = 10_000  #: on all of them: as many as were simulated (`tests.simulator.capacity`)
NAMED_MAX = 20  #: members that are not used are named; a cluster may have thousands of them
_END_LIMIT_S = 1.0
_NAME_CHARS_MAX = 100
_FULL = (
    f"a farm has at most {SITES_MAX} sites with {SITE_WORKERS_MAX} workers, also counting those that are gone, which "
    "the next start forgets, and those that cannot be connected; further ones are not named"
)


@dataclass(frozen=True, slots=True)
class FoundSite:
    """A member of the cluster."""

    name: str
    connect: Callable[[], RemoteSite]  #: makes the host's side of it, which is not opened yet
    problem: str = ""  #: why it can be no site, or is in the way of the one of its name


#: The members of the cluster now. Raises SiteUnavailable: the cluster does not answer.
FindSites = Callable[[], Sequence[FoundSite]]


def has_room(sites: Sequence[RemoteSite], more: RemoteSite) -> bool:
    """Whether a farm with these sites may have one more."""
    workers = sum(len(site.workers) for site in sites) + len(more.workers)
    return len(sites) < SITES_MAX and workers <= SITE_WORKERS_MAX


class SiteSearch:
    """Finds sites that have appeared in a cluster."""

    def __init__(self, find: FindSites, bells: Bells, established: Collection[str] = ()) -> None:
        """`established` are sites that the farm knows: if names clash, a site that is new to it is not used."""
        self._find, self._bells, self._established = find, bells, frozenset(established)
        self._lock = threading.Lock()
        self._found: Sequence[FoundSite] | None = None  #: of the last look, until it is taken
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_again, name="site-search", daemon=True)
        self._connecting: dict[str, RemoteSite] = {}
        self._warned_of: dict[str, str] = {}  #: name -> what is the matter with it, as it was logged
        self._is_full = self._has_more = False

    def look(self, taken: Collection[str]) -> None:
        """Looks for sites once, before `start`. Raises SiteUnavailable: the cluster does not answer."""
        self._connect(self._find(), (), taken)

    def connecting(self) -> list[RemoteSite]:
        """Sites that were found, connected or not, and were not taken."""
        return list(self._connecting.values())

    def is_established(self, name: str) -> bool:
        """Whether the farm knows the site of that name."""
        return clean(name, _NAME_CHARS_MAX) in self._established

    def problems(self) -> list[str]:
        """Why members of the cluster are not used, in a line for each."""
        named = [f"site {clean(name, _NAME_CHARS_MAX)}: {why}" for name, why in self._warned_of.items()]
        tried = [site for site in self._connecting.values() if site.problem]
        return [*(f"site {clean(site.name, _NAME_CHARS_MAX)}: {site.problem}" for site in tried), *named]

    def start(self) -> None:
        """Looks for sites from now on."""
        self._thread.start()

    def appeared(self, known: Sequence[RemoteSite], taken: Collection[str]) -> list[RemoteSite]:
        """Sites that are not among the known ones, and are connected. Does not wait.

        `taken` are names that no worker may have.
        """
        with self._lock:
            found, self._found = self._found, None
        if found is not None:
            self._connect(found, known, taken)
        ready = [site for site in self._connecting.values() if site.notifies]
        names = lower_names(known, taken) if ready else {}
        usable = [site for site in ready if not problem_of_names(site.workers, names)]
        for site in ready if len(usable) < len(ready) else ():
            if site not in usable:  # another worker got the name meanwhile; the next look says so
                self._drop(site.name)
        return usable

    def take(self, site: RemoteSite) -> None:
        """Leaves a site that has appeared to the caller, who closes it."""
        del self._connecting[site.name]
        site.is_used = True

    def close(self) -> list[RemoteSite]:
        """Ends the search; the caller closes the sites that are being connected."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(_END_LIMIT_S)
        return list(self._connecting.values())

    # ---------------------------------------------------------------------------------------------------------- inside

    def _look_again(self) -> None:
        said: bool | None = None  #: whether the last look failed in a foreseen way; None: it has not failed
        while not self._closed.wait(SEARCH_INTERVAL_S):
            try:
                found = self._find()
            except Exception as error:  # also a defect: the farm plays on, and the cluster is asked again
                is_foreseen = isinstance(error, SiteUnavailable)
                if is_foreseen is not said and not self._closed.is_set():
                    what = f"the cluster: {error}" if is_foreseen else "a defect of this program"
                    log.warning("sites that appear are not noticed now: %s", what, exc_info=not is_foreseen)
                said = is_foreseen
                continue
            said = None
            with self._lock:
                self._found = found

    def _connect(self, found: Sequence[FoundSite], known: Sequence[RemoteSite], taken: Collection[str]) -> None:
        names = {site.name for site in found}
        for name in self._connecting.keys() - names:
            self._drop(name)
        self._warned_of = {name: why for name, why in self._warned_of.items() if name in names}
        self._has_more = self._has_more and len(self._warned_of) >= NAMED_MAX
        together = [*known, *self._connecting.values()]
        used, worker_names = {site.name for site in together}, lower_names(together, taken)
        was_full, self._is_full = self._is_full, False
        for member in sorted(found, key=self._is_new):
            if member.name in used or member.problem:
                if member.problem:
                    not_used = "" if member.name in used else "it is not used: "
                    self._warn(member.name, f"{not_used}{member.problem}")
                continue
            site = member.connect()
            if not has_room(together, site):
                self._is_full = True
                if not was_full:
                    log.warning("site %s: it is not used: %s", clean(member.name, _NAME_CHARS_MAX), _FULL)
                break
            if problem := problem_of_names(site.workers, worker_names):
                self._warn(member.name, f"it is not used: {problem}")
            else:
                self._begin(site)
                together.append(site)
                used.add(site.name)
                worker_names |= lower_names([site])

    def _is_new(self, member: FoundSite) -> bool:
        return not self.is_established(member.name)

    def _begin(self, site: RemoteSite) -> None:
        site.is_used = False
        self._connecting[site.name] = site
        log.info("site %s: has appeared", clean(site.name, _NAME_CHARS_MAX))
        site.listen(self._bells)

    def _drop(self, name: str) -> None:
        site = self._connecting.pop(name)
        threading.Thread(target=site.close, name=f"close-{site.name}", daemon=True).start()

    def _warn(self, name: str, problem: str) -> None:
        """Says once what is the matter with a member."""
        if self._warned_of.get(name) == problem:
            return
        if name in self._warned_of or len(self._warned_of) < NAMED_MAX:
            self._warned_of[name] = problem
            log.warning("site %s: %s", clean(name, _NAME_CHARS_MAX), problem)
        elif not self._has_more:
            self._has_more = True
            log.warning("further members of the cluster cannot be used; they are not named")


def lower_names(sites: Iterable[RemoteSite], taken: Iterable[str] = ()) -> dict[str, str]:
    """The names of their workers, and those that are taken, by what they are in lower case."""
    of_sites = (worker for site in sites for worker in site.workers)
    return {name.lower(): name for names in (taken, of_sites) for name in names}


def problem_of_names(workers: Iterable[str], lower: Mapping[str, str]) -> str:
    """Why a site with these workers cannot be used beside those; the empty string if it can.

    Names differ by more than case, because they are names of folders.
    """
    other = next((lower[worker.lower()] for worker in workers if worker.lower() in lower), "")
    return f"there is a worker {other} already; give the Dask worker another name" if other else ""
