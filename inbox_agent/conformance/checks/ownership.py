"""Whose share it is: heartbeats with and without an owner, epochs, signals of others."""

import time

from inbox_agent.conformance.check import check
from inbox_agent.conformance.host_side import FARM, WORKER
from inbox_agent.conformance.scenario import QUIET_S, Scenario
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import OUTBOX, STAGING, AgentState, Kind

_LEFTOVER = f"{OUTBOX}/{STAGING}/{Kind.RESULT.of('g0001-0001-t1-a1-leftover0001')}"


@check("law 7")
def without_owner_nothing_is_touched(scenario: Scenario) -> None:
    """Without a host.json the agent beats without a farm, claims nothing and removes nothing."""
    host = scenario.host
    host.publish(waiting := host.game())
    old = host.game()
    kept = [host.put(f"{OUTBOX}/{Kind.LOG.of(old.attempt)}"), host.put(_LEFTOVER)]
    host.put_claim(old, "old-run")
    scenario.start_agent()
    scenario.wait_for("a heartbeat", host.heartbeat)
    for beat in scenario.wait_for_beats(2):
        owner = (beat.farm, beat.worker, beat.epoch)
        scenario.require(owner == (None, None, None), "a heartbeat without farm, worker and epoch", str(owner))
        scenario.require(beat.state is AgentState.UNOWNED, "the state `unowned`", str(beat.state))
    scenario.require(not host.kinds(waiting), "no claim and no result without an owner")
    scenario.require(host.claim(old) and all(path.exists() for path in kept), "all files in outbox/ still there")


@check("law 7")
def heartbeat_names_owner(scenario: Scenario) -> None:
    """Once there is a host.json, heartbeats have its farm, worker and epoch; the counter rises, the run id stays."""
    host = scenario.host
    scenario.start_agent()
    unowned = scenario.wait_for("a heartbeat", host.heartbeat)
    host.publish_owner(epoch=3)
    scenario.wait_for_farm(epoch=3)
    for beat in scenario.wait_for_beats(2):
        owner = (beat.farm, beat.worker, beat.epoch)
        scenario.require(owner == (FARM, WORKER, 3), "farm, worker and epoch of the host.json", str(owner))
        scenario.require(beat.state is AgentState.IDLE, "the state `idle`", str(beat.state))
        scenario.require(beat.run_id == unowned.run_id, "the run id of its first heartbeat", beat.run_id)


@check("law 7")
def new_epoch_is_followed(scenario: Scenario) -> None:
    """The host.json of the highest epoch counts: its start signals are played, those of the last epoch are not."""
    host = scenario.host
    old = host.game()
    host.publish_owner(epoch=9)
    host.publish(old)
    host.publish_owner(epoch=10)
    scenario.start_agent()
    scenario.wait_for_farm(epoch=10)
    result = scenario.play(host.game())
    scenario.require(result.epoch == 10, "the epoch 10 in the result", str(result.epoch))
    scenario.require(not host.kinds(old), "nothing written for a start signal of an epoch that is over")


@check("law 7")
def signals_of_others_are_left_alone(scenario: Scenario) -> None:
    """A start signal of another farm, worker or epoch is neither played nor answered."""
    host = scenario.host
    scenario.start_owned_agent()
    others = [
        host.game({"farm": "another-farm"}),
        host.game({"worker": "vm-04"}),
        host.game({"epoch": 2}),
    ]
    host.publish(*others, own := host.game())
    scenario.wait_for_result(own)
    scenario.play(host.game())
    for other in others:
        start = other.start
        what = f"nothing written for farm {start.farm}, worker {start.worker}, epoch {start.epoch}"
        scenario.require(not host.kinds(other), what)


@check("law 7")
def damaged_host_record_stops_everything(scenario: Scenario) -> None:
    """With a host.json that it cannot read the agent begins nothing, removes nothing and does not beat."""
    host = scenario.host
    scenario.start_owned_agent()
    scenario.play(over := host.game())
    began = time.monotonic()
    scenario.wait_for_beats(2)
    beat_s = time.monotonic() - began  # at least the time between two of them
    host.publish_record(layout.host_name(2), b'{"layout": 2, "farm": "9f2c')
    host.publish(game := host.game())
    host.withdraw(over)
    # A round that had read the last host.json may still end, with a heartbeat.
    scenario.require_quiet("no claim", lambda: not host.kinds(game))
    before = host.heartbeat()
    scenario.require_quiet("no heartbeat", lambda: host.heartbeat() == before, beat_s + QUIET_S)
    scenario.require(host.kinds(over), "nothing removed")
    host.publish_owner(epoch=3)
    scenario.wait_for_farm(epoch=3)
    scenario.play(host.game())


@check("version rule")
def owner_of_another_layout_is_no_owner(scenario: Scenario) -> None:
    """With a host.json of another layout version the agent beats without a farm and claims nothing."""
    host = scenario.host
    host.publish_record(
        layout.host_name(1), b'{"layout": 3, "farm": "9f2c41d07be85a36", "worker": "vm-03", "epoch": 1}\n'
    )
    host.publish(game := host.game())
    scenario.start_agent()
    scenario.wait_for("a heartbeat", host.heartbeat)
    beats = scenario.wait_for_beats(2)
    scenario.require(all(beat.farm is None for beat in beats), "heartbeats without a farm", str(beats[-1].farm))
    scenario.require(not host.kinds(game), "no claim and no result")


@check("the agent, at its start, 3")
def leftovers_of_staging_are_removed(scenario: Scenario) -> None:
    """Files that a predecessor left in outbox/tmp are removed once there is a host.json."""
    left = scenario.host.put(_LEFTOVER, b"{}")
    scenario.start_owned_agent()
    scenario.wait_for(f"{_LEFTOVER} removed", lambda: not left.exists())


@check("names")
def unknown_names_are_left_alone(scenario: Scenario) -> None:
    """Names that the document does not have are neither read nor removed."""
    host = scenario.host
    attempt = host.game().attempt
    places = ["inbox/notes.txt", "inbox/g1.start.json", "inbox/01.host.json", "outbox/notes.txt"]
    places += [f"inbox/{attempt}.start.json.bak", f"inbox/{attempt}.claim", f"outbox/{attempt}.result"]
    kept = [host.put(place, b"x") for place in places]
    scenario.start_owned_agent()
    scenario.play(game := host.game())
    host.withdraw(game)
    scenario.wait_until_clean(game)
    gone = [path.name for path in kept if not path.exists()]
    scenario.require(not gone, "unknown names still there", f"{', '.join(gone)} removed")


@check("names")
def flood_of_names_is_survived(scenario: Scenario) -> None:
    """Thousands of unknown names in both folders, and hundreds of signals of others, do not keep it from playing."""
    host = scenario.host
    for number in range(2000):
        host.put(f"inbox/unknown-{number}.json")
        host.put(f"outbox/unknown-{number}.json")
    host.publish_owner()
    for number in range(300):
        signal = host.game({"worker": "vm-04", "publication": number + 1})
        host.put(f"inbox/{Kind.START.of(signal.attempt)}", layout.encode(signal.start))
    scenario.start_agent()
    scenario.wait_for_farm()
    scenario.play(game := host.game())
    host.withdraw(game)
    scenario.wait_until_clean(game)
