"""The sites of one process of a cluster, of all farms that use it: answers messages, and forgets hosts that are silent.

Owns: where a site is on the disk, and that an error in one of them is its answer.
Threads: any may call; an answer to `AwaitChanges` takes as long as it asks for.
"""

import hashlib
import logging
import os
import platform
import re
import shutil
import socket
import threading
import time
from pathlib import Path

from inbox_agent.arguments import state_base
from inbox_agent.identity import agent_version
from inbox_agent.system.file_lock import AlreadyLocked
from pipeline.errors import HostError
from pipeline.machines.sites.content_store import ContentError
from pipeline.machines.sites.leftover_agents import AgentStays
from pipeline.machines.sites.messages import (
    Answer,
    AwaitChanges,
    CloseSite,
    Describe,
    Described,
    Execute,
    FetchChunk,
    NotOpen,
    OpenSite,
    Refused,
    Request,
    RunAgent,
    SiteDone,
    SiteOpened,
    StoreChunk,
    decode_request,
    encode,
)
from pipeline.machines.sites.site import Site
from pipeline.paths import default_site_base

log = logging.getLogger(__name__)

HOST_SILENCE_LIMIT_S = 3600.0  #: without a message of its host, before the agents of a site are ended
_LOOK_INTERVAL_S = 60.0
_ENDS = "its process ends"


class SiteServer:
    """The sites of a process; `name` tells it from others, also after a restart of the process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._sites: dict[str, Site] = {}  #: by farm
        self._asked_at: dict[str, float] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._end_silent, name="sites", daemon=True).start()

    def answer(self, data: bytes) -> bytes:
        """The answer to a message."""
        try:
            request = decode_request(data)
        except ValueError as error:
            log.warning("a message that is none: %s", error)
            return encode(Refused(reason=f"the message cannot be read there: {error}"[:300], is_final=True))
        try:
            return encode(self._answer(request))
        except (ContentError, AlreadyLocked, AgentStays, HostError, OSError, ValueError) as error:
            return encode(Refused(reason=str(error)[:300]))

    def close(self) -> None:
        """Ends the agents of all sites."""
        self._closed.set()
        with self._lock:
            sites, self._sites = list(self._sites.values()), {}
            for site in sites:
                site.close()

    def _answer(self, request: Request) -> Answer:
        match request:
            case OpenSite():
                return self._open(request)
            case CloseSite():
                self._close(request.farm)
                return SiteDone()
            case Describe():
                return self._describe(request)
            case _:
                return self._answer_of_site(request)

    def _answer_of_site(self, request: Execute | StoreChunk | FetchChunk | RunAgent | AwaitChanges) -> Answer:
        site = self._sites.get(request.farm)
        if site is None or not self._is_heard(site):
            return self._not_open()
        match request:
            case Execute():
                return site.execute(request)
            case StoreChunk():
                return site.store(request)
            case FetchChunk():
                return site.fetch(request)
            case RunAgent():
                return site.run_agent(request)
            case AwaitChanges():
                watched = site.watch(request)
                # Of a site that is being closed its host must not learn that agents have ended, as if they had failed.
                return watched if self._sites.get(request.farm) is site else self._not_open()

    def _not_open(self) -> Answer:
        return Refused(reason=_ENDS) if self._closed.is_set() else NotOpen()

    def _is_heard(self, site: Site) -> bool:
        """Notes a message of a site's host; False if it was silent for too long, until it opens the site again."""
        farm, now = site.settings.farm, time.monotonic()
        if now > self._asked_at[farm] + site.settings.silence_limit_s:
            return False
        self._asked_at[farm] = now
        return True

    def _open(self, request: OpenSite) -> Answer:
        if (refused := _refused(request.version)) is not None:
            return refused
        with self._lock:
            if self._closed.is_set():
                return Refused(reason=_ENDS)
            site = self._sites.get(request.farm)
            if site is not None and site.settings != request:
                self._sites.pop(request.farm).close()
                site = None
            if site is None:
                site = self._sites[request.farm] = Site(self._folder(request), request)
                log.info("farm %s: %d agents in %s", request.farm, len(request.workers), site.folder)
            self._asked_at[request.farm] = time.monotonic()
        return SiteOpened(host_name=socket.gethostname(), folder=str(site.folder), python=platform.python_version())

    def _describe(self, request: Describe) -> Answer:
        if (refused := _refused(request.version)) is not None:
            return refused
        base = _base(request.folder)
        base.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(base).free
        return Described(
            host_name=socket.gethostname(), folder=str(base), python=platform.python_version(), free_bytes=free_bytes
        )

    def _folder(self, request: OpenSite) -> Path:
        return _base(request.folder) / folder_name(request.farm) / folder_name(self._name)

    def _close(self, farm: str) -> None:
        with self._lock:
            if (site := self._sites.pop(farm, None)) is not None:
                site.close()
                log.info("farm %s: closed", farm)

    def _end_silent(self) -> None:
        """Closes sites whose hosts have ended without closing them."""
        while not self._closed.wait(_LOOK_INTERVAL_S):
            oldest = time.monotonic() - HOST_SILENCE_LIMIT_S
            for farm, asked in list(self._asked_at.items()):
                if asked < oldest and farm in self._sites:
                    log.warning("farm %s: its host is silent for %.0f s", farm, HOST_SILENCE_LIMIT_S)
                    self._close(farm)


def _refused(version: str) -> Refused | None:
    """Why a host of this version cannot be served; None if it can."""
    if (own := agent_version()) == version:
        return None
    reason = f"genome-pipeline {own} is installed there, the host has {version}; install the same version"
    return Refused(reason=reason, is_final=True)


def _base(folder: str) -> Path:
    """The folder of all sites. Raises ValueError: it depends on where the process was started."""
    base = Path(os.path.expanduser(folder)) if folder else default_site_base(state_base())
    if not base.is_absolute():
        raise ValueError(f"{folder}: the folder of sites must be an absolute path")
    return base


def folder_name(name: str) -> str:
    """A name of a folder, different for different names."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:48]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
