"""Every limit of the host's rules in one place, with its reason. Pure data; the `[limits]` table of `pipeline.toml`."""

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=7 * 86400)]
Count = Annotated[int, Meta(ge=1, le=1000)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often something is tried, how long it is waited for, what a worker must have.

    Times are the host's own, in seconds.
    """

    attempts_max: Count = 3  #: tries that may be the genome's fault, before its trial is settled without a fitness
    losses_per_trial_max: Count = 10  #: tries lost on the way, before a trial is given up
    losses_max: Count = 3  #: losses in a row, before a worker is quarantined
    probations_max: Count = 3  #: failed probations, before a worker is out for this run
    restarts_max: Count = 5  #: recoveries without one finished attempt, before a worker is quarantined
    silence_limit_s: Seconds = 30.0  #: six beats of a playing agent
    claim_limit_s: Seconds = 30.0  #: for an idle worker to claim what waits in its inbox
    grace_s: Seconds = 20.0  #: beyond the time limit, for the agent to end a game and say so
    rung_limit_s: Seconds = 30.0  #: for a rung of the ladder to bring a sign of life
    boot_limit_s: Seconds = 240.0  #: the same, where a machine has to boot and log on for it
    back_off_s: Seconds = 15.0  #: the first quarantine; it doubles with every failed probation
    take_back_after_s: Seconds = 1.0  #: waiting behind a game this old, an attempt may go to an idle worker
    needs_desktop: bool = False  #: whether only agents get work whose windows are shown

    def __post_init__(self) -> None:
        if self.losses_per_trial_max < self.losses_max:
            raise ValueError("losses_per_trial_max must not be below losses_max")
