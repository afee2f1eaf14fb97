"""What `pipeline doctor` finds out about the sites of a cluster: whether each could play, and what is in its way."""

import time
from dataclasses import dataclass

from inbox_agent.identity import agent_version
from inbox_agent.protocol.layout import clean
from pipeline.core.disk_room import bytes_text
from pipeline.machines.sites.messages import AnswerError, Describe, Described, Refused, decode_answer, encode
from pipeline.machines.sites.site_link import SiteLink, SiteUnavailable

FREE_BYTES_MIN = 256 * 1024**2
_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class SiteFinding:
    """What was found of one site, or of the cluster."""

    item: str
    ok: bool
    found: str
    fix: str = ""


def examined(name: str, link: SiteLink, folder: str) -> SiteFinding:
    """What is found of a site that the cluster knows."""
    message, item = encode(Describe(version=agent_version(), folder=folder)), f"site {name}"
    try:
        decode_answer(link.call(message, _LIMIT_S))  # the first call also installs the plugin
        began = time.perf_counter()
        answer = decode_answer(link.call(message, _LIMIT_S))
    except (SiteUnavailable, AnswerError) as error:
        return SiteFinding(item, False, str(error))
    round_trip_ms = 1000 * (time.perf_counter() - began)
    match answer:
        case Described(host_name=host, folder=place, python=python, free_bytes=free) if free >= FREE_BYTES_MIN:
            found = f"on {clean(host, 100)}, Python {clean(python, 20)}, {bytes_text(free)} free in {clean(place, 200)}"
            return SiteFinding(item, True, f"{found}; round trip {round_trip_ms:.1f} ms")
        case Described(folder=place, free_bytes=free):
            found = f"only {bytes_text(free)} are free in {clean(place, 200)}"
            return SiteFinding(item, False, found, "make room, games and logs need some")
        case Refused(reason=reason):
            return SiteFinding(item, False, clean(reason, 300))
    return SiteFinding(item, False, f"it has answered {type(answer).__name__}")
