"""The limits of the host's rules, each with its reason: the `[limits]` table of `pipeline.toml`. Pure data."""

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=7 * 86400)]
Count = Annotated[int, Meta(ge=1, le=1000)]
Bytes = Annotated[int, Meta(ge=0, le=2**53)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often something is tried, how long it is waited for, what a worker must have, how much is taken from it.

    Times are the host's own, in seconds. What is counted of a generation is counted anew when the host starts.
    """

    attempts_max: Count = 3  #: charges before a genome is poison; set it in `[generation]`
    failures_max: Count = 2  #: failures and time-outs of a trial before it is settled so; set it in `[generation]`
    losses_per_trial_max: Count = 10  #: lost attempts at a trial before it is given up
    losses_max: Count = 3  #: losses in a row before a worker is quarantined
    probations_max: Count = 3  #: failed probations before a worker is excluded from this run
    restarts_max: Count = 5  #: recovery actions without a finished attempt before a worker is quarantined
    silence_limit_s: Seconds = 30.0  #: without a heartbeat, before a worker counts as silent: six heartbeats
    claim_limit_s: Seconds = 30.0  #: for an idle worker to claim an attempt in its inbox
    grace_s: Seconds = 20.0  #: beyond the time limit, for the agent to end a game and report it
    agent_restart_limit_s: Seconds = 30.0  #: for a restart of the agent to bring a heartbeat
    load_limit_s: Seconds = 300.0  #: set it in `[evaluator]`
    idle_after_s: Seconds | None = None  #: set it in the machines' table; unset: no machine is put to rest
    spare: Annotated[int, Meta(ge=0, le=1000)] = 0  #: set it in the machines' table
    copy_stragglers: bool = False  #: set it in `[generation]`
    boot_limit_s: Seconds = 240.0  #: the same for recovery actions after which a machine boots
    back_off_s: Seconds = 15.0  #: the first quarantine; each failed probation doubles it
    take_back_after_s: Seconds = 1.0  #: an attempt that waits behind a game this long may move to an idle worker
    needs_desktop: bool = False  #: give work only to agents in a session that shows windows
    result_artifact_bytes_max: Bytes = 64 * 1024**2  #: artifacts of one result; the others of it are left out
    worker_artifact_bytes_max: Bytes = 16 * 1024**3  #: artifacts of a generation from one worker
    generation_artifact_bytes_max: Bytes = 64 * 1024**3  #: artifacts of a generation from all workers
    #: free space on this computer below which artifacts are left out; unset: 1 GiB, or a twentieth of a smaller disk
    disk_reserve_bytes: Bytes | None = None
    set_aside_bytes_max: Bytes = 64 * 1024**2  #: in `set-aside/` of a generation: results that were not counted
    #: results of attempts that were never issued, of a generation from one worker; further ones are ignored
    unknown_results_max: Count = 100
    #: times a share goes back in time without an order of the host, before its worker is quarantined
    reverts_max: Count = 10

    def __post_init__(self) -> None:
        if self.losses_per_trial_max < self.losses_max:
            raise ValueError("losses_per_trial_max must not be below losses_max")
