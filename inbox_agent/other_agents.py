"""Other agents on the same share: a new agent watches before it acts, and one that has a successor ends.

Owns: when another agent counts as active. Not here: the locks that keep a second agent out on an own disk
(inbox_agent.__main__).
See: share_layout.md, law 7.
"""

from collections.abc import Callable

from inbox_agent.protocol.files import ShareError, ShareFiles, Unavailable
from inbox_agent.protocol.layout import LayoutError
from inbox_agent.protocol.readers import read_heartbeat
from inbox_agent.share_scanner import AgentLimits


class OtherAgentActive(Exception):
    """Another agent is active on this share; this one must end."""


class OtherAgents:
    """Finds other agents of one share by their heartbeats."""

    def __init__(
        self,
        files: ShareFiles,
        run_id: str,
        clock: Callable[[], float],
        limits: AgentLimits,
        *,
        share_is_local: bool,
    ) -> None:
        """`run_id` is that of this agent."""
        self._files, self._run_id, self._clock, self._limits = files, run_id, clock, limits
        self._other_agent: tuple[str, int] | None = None
        self._announced = False
        self._knows_predecessor = not share_is_local
        self._watching_until = None if share_is_local else clock() + limits.newcomer_beats * limits.beat_s

    @property
    def is_watching(self) -> bool:
        """Whether this agent only watches yet."""
        return self._watching_until is not None

    def watch(self, announce: Callable[[], None]) -> float:
        """Watches for three beats before this agent acts; returns the longest time to wait before the next call, in
        seconds.

        It announces itself for the last beat, because two agents that start together both see no heartbeat: only one
        announcement remains, and the agent that finds the other's ends.

        Args:
            announce: writes a heartbeat without an owner; may raise Unavailable.

        Raises:
            OtherAgentActive: another agent writes heartbeats on this share.
        """
        assert self._watching_until is not None
        try:
            heartbeat = self._other_heartbeat()
            if (
                heartbeat is not None
                and self._other_agent != heartbeat
                and (self._announced or self._other_agent is not None)
            ):
                raise OtherAgentActive(f"another agent (run {heartbeat[0]}) beats on this share")
            self._other_agent = heartbeat or self._other_agent
            if not self._announced and self._clock() >= self._watching_until - self._limits.beat_s:
                announce()
                self._announced = True
                # However long the write took, another announcement stays visible for a whole beat.
                self._watching_until = max(self._watching_until, self._clock() + self._limits.beat_s)
        except Unavailable:  # the beats are counted from the next successful read
            self._watching_until = self._clock() + self._limits.newcomer_beats * self._limits.beat_s
            return self._limits.poll_s
        if self._clock() >= self._watching_until:
            self._watching_until = None
            return 0.0
        return min(self._limits.poll_s, self._limits.beat_s)

    def check_for_newer(self) -> None:
        """Called before each heartbeat: this agent was suspended meanwhile, or the other one uses another lock.

        Raises:
            OtherAgentActive: this agent has a successor.
            Unavailable: the share cannot be asked.
        """
        heartbeat = self._other_heartbeat(announced=False)
        if not self._knows_predecessor:  # on an own disk the lock has shown that it ended
            self._other_agent, self._knows_predecessor = heartbeat, True
        elif heartbeat not in (None, self._other_agent):
            raise OtherAgentActive(f"another agent (run {heartbeat[0]}) has taken over this share")

    def _other_heartbeat(self, *, announced: bool = True) -> tuple[str, int] | None:
        """Run id and counter of another agent's heartbeat, None if there is none.

        `announced` includes the heartbeat of an agent that only announced itself.
        """
        try:
            heartbeat = read_heartbeat(self._files)
        except Unavailable:
            raise
        except (ShareError, LayoutError):
            return None
        if heartbeat.run_id == self._run_id or (heartbeat.farm is None and not announced):
            return None
        return heartbeat.run_id, heartbeat.counter
