"""The sites that a farm opens with: it waits until so many of them are open.

Owns: how long it waits, what is said meanwhile, and which of the sites that do not answer are part of the farm.
Not here: which members of the cluster can be sites (`site_search`).
"""

import logging
import threading
import time
from collections.abc import Collection

from pipeline.errors import HostError
from pipeline.machines.sites.remote_site import OPEN_LIMIT_S, RemoteSite
from pipeline.machines.sites.site_link import SiteUnavailable
from pipeline.machines.sites.site_search import SiteSearch

log = logging.getLogger(__name__)

FIND_LIMIT_S = 60.0  #: for the scheduler to answer, and for so many sites to be open
_LOOK_INTERVAL_S = 0.2
_NOTICE_AFTER_S = 5.0  #: sites that are opened take seconds in the ordinary case
_NAMED_MAX = 3


def first_sites(search: SiteSearch, scheduler: str, sites_min: int, taken: Collection[str]) -> list[RemoteSite]:
    """The sites of a farm that opens, taken from a search that was not started: so many of them are open.

    Those of an earlier host that have not answered are among them, because their shares may hold results. Others, and
    those that refuse, join once they are open, as sites do that appear later.

    Raises:
        HostError: there are not enough within the time; it says why, and what to do.
    """
    began, is_said, problem = time.monotonic(), False, ""
    while True:
        try:
            search.look(taken)
            problem = ""
        except SiteUnavailable as error:
            problem = f"{error}; start `dask scheduler` there, or correct `cluster`"
        sites, waited_s = search.connecting(), time.monotonic() - began
        ready = sum(site.notifies for site in sites)
        is_decided = not any(site.is_untried for site in sites)
        if ready >= sites_min and (is_decided or waited_s >= OPEN_LIMIT_S):
            return _taken(search, sites)
        if waited_s >= FIND_LIMIT_S:
            if problem:
                raise HostError(f"no Dask scheduler at {scheduler} in {FIND_LIMIT_S:g} s: {problem}")
            raise HostError(_too_few(search, ready, sites_min))
        if not (is_said or problem or ready >= sites_min) and (is_decided or waited_s >= _NOTICE_AFTER_S):
            is_said, text = True, "waits up to %g s for sites: %d of %d are there (sites_min = %d)"
            log.warning(text, FIND_LIMIT_S, ready, sites_min, sites_min)
        threading.Event().wait(_LOOK_INTERVAL_S)


def more_sites(sites_min: int) -> str:
    """What to do if there are fewer."""
    return "start more Dask workers, or lower `sites_min`" if sites_min > 1 else "start more Dask workers"


def _taken(search: SiteSearch, sites: list[RemoteSite]) -> list[RemoteSite]:
    taken = [site for site in sites if site.notifies or (search.is_established(site.name) and not site.refusal)]
    for site in taken:
        search.take(site)
    return taken


def _too_few(search: SiteSearch, ready: int, sites_min: int) -> str:
    found = f"{ready} of {sites_min} sites can be used after {FIND_LIMIT_S:g} s"
    problems = search.problems()
    more = more_sites(sites_min)
    if not problems:
        return f"{found}; {more}"
    others = f"; {len(problems) - _NAMED_MAX} further ones cannot be used" if len(problems) > _NAMED_MAX else ""
    return f"{found}: {'; '.join(problems[:_NAMED_MAX])}{others}; or {more}"
