"""The agent's next step: single cases, then properties over all states of a share."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inbox_agent.planner import (
    Clean,
    ReportUnplayed,
    Run,
    ShareState,
    Step,
    Stop,
    TakeDeployment,
    Wait,
    apply_step,
    in_order,
    next_step,
)
from inbox_agent.protocol.layout import HostRecord, Kind, Outcome, StartRecord, attempt_id
from tests.harness import records

pytestmark = pytest.mark.rules

quick = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])

OURS = HostRecord(farm="farm-a", worker="vm-03", epoch=3)
FIRST, SECOND, THIRD = (attempt_id(7, genome, 1, 1, f"{genome:012d}") for genome in (1, 2, 3))
UNDELIVERED = (Outcome.UNDELIVERED, "the genome is absent")
REJECTED = (Outcome.REJECTED, "layout 1, this program uses layout 2")
INTERRUPTED = ReportUnplayed(FIRST, Outcome.INTERRUPTED, "the agent restarted while this attempt was played")


def start(attempt: str, publication: int = 1, owner: HostRecord = OURS) -> StartRecord:
    """A start signal of the share's owner, or of another one."""
    return records.start(publication, attempt=attempt, farm=owner.farm, worker=owner.worker, epoch=owner.epoch)


def share_state(
    *starts: StartRecord,
    owner: HostRecord | None = OURS,
    unread: Collection[str] = (),
    damaged: Collection[str] = (),
    undeliverable: Mapping[str, tuple[Outcome, str]] | None = None,
    outbox: Mapping[str, Collection[Kind]] | None = None,
    running: str | None = None,
    unconfirmed_claims: Collection[str] = (),
    evaluator: str | None = records.VERSION,
) -> ShareState:
    """A scan: `starts` are present and read; unread, damaged and undeliverable ones are present as well."""
    undeliverable = undeliverable or {}
    return ShareState(
        owner=owner,
        present={s.attempt for s in starts} | {*unread, *damaged} | undeliverable.keys(),
        starts=in_order({s.attempt: s for s in starts}),
        damaged=damaged,
        undeliverable=undeliverable,
        outbox=outbox or {},
        running=running,
        unconfirmed_claims=unconfirmed_claims,
        evaluator=evaluator,
    )


def steps(state: ShareState) -> list[Step]:
    """The agent's steps from one scan until it runs an evaluation or waits."""
    done = [next_step(state)]
    while not isinstance(done[-1], Run | Wait):
        assert len(done) <= 20, "it does not come to rest"
        state = apply_step(state, done[-1])
        done.append(next_step(state))
    return done


# -------------------------------------------------------------------------------------------------------- the owner


def test_empty_share_means_wait() -> None:
    assert next_step(share_state()) == Wait()


def test_no_evaluation_without_owner() -> None:
    """Without a host.json the start signals may belong to any host."""
    assert next_step(share_state(start(FIRST), owner=None)) == Wait()


def test_nothing_is_removed_without_owner() -> None:
    """An unmounted folder is empty, too: results without a visible start signal may still be wanted."""
    assert next_step(share_state(owner=None, outbox={FIRST: {Kind.STARTED, Kind.RESULT}})) == Wait()


def test_running_evaluation_continues_without_owner() -> None:
    assert next_step(share_state(owner=None, outbox={FIRST: {Kind.STARTED}}, running=FIRST)) == Wait()


OTHERS = {
    "another farm": HostRecord(farm="farm-b", worker="vm-03", epoch=3),
    "another worker": HostRecord(farm="farm-a", worker="vm-04", epoch=3),
    "an older epoch": HostRecord(farm="farm-a", worker="vm-03", epoch=2),
    "a newer epoch": HostRecord(farm="farm-a", worker="vm-03", epoch=4),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_start_signal_of_other_owner_is_left_alone(other: HostRecord) -> None:
    """It is neither evaluated nor answered, and does not block the next one."""
    foreign, ours = start(FIRST, 1, other), start(SECOND, 2)

    assert next_step(share_state(foreign)) == Wait()
    assert next_step(share_state(foreign, outbox={FIRST: {Kind.STARTED}})) == Wait()
    assert next_step(share_state(foreign, ours)) == Run(ours)


def test_start_signal_under_wrong_name_is_not_evaluated() -> None:
    """A record must be of the attempt in its name."""
    state = share_state(start(FIRST))

    assert next_step(replace(state, present={SECOND}, starts={SECOND: start(FIRST)})) == Wait()


# ---------------------------------------------------------------------------------------------------- evaluation


def test_waiting_start_signal_is_evaluated() -> None:
    assert next_step(share_state(start(FIRST))) == Run(start(FIRST))


def test_lowest_publication_is_evaluated_first() -> None:
    """Evaluation follows the order of publication, not that of attempt ids."""
    assert next_step(share_state(start(FIRST, 12), start(SECOND, 9), start(THIRD, 10))) == Run(start(SECOND, 9))


def test_one_evaluation_at_a_time() -> None:
    """While one runs, the next one waits."""
    state = share_state(start(FIRST, 1), start(SECOND, 2), outbox={FIRST: {Kind.STARTED}}, running=FIRST)

    assert next_step(state) == Wait()


def test_deployment_is_taken_before_the_next_game() -> None:
    """Once: the next step is the game, if the evaluator that was deployed is what it asks for."""
    state = replace(share_state(start(FIRST)), deployment=2)

    assert next_step(state) == TakeDeployment(2)
    assert next_step(apply_step(state, TakeDeployment(2))) == Run(start(FIRST))


def test_deployment_waits_for_the_end_of_the_running_game() -> None:
    state = share_state(start(FIRST), outbox={FIRST: {Kind.STARTED}}, running=FIRST)

    assert next_step(replace(state, deployment=2)) == Wait()


def test_deployment_waits_for_reports() -> None:
    """The host must hear of a claim that was left before anything else is done."""
    state = share_state(start(FIRST), outbox={FIRST: {Kind.STARTED}})

    assert next_step(replace(state, deployment=2)) == INTERRUPTED


def test_unreadable_start_signal_is_waited_for() -> None:
    """It is present, so its files are not cleaned; it is incomplete, so it is not evaluated."""
    assert next_step(share_state(unread=[FIRST])) == Wait()
    assert next_step(share_state(unread=[FIRST], outbox={FIRST: {Kind.LOG}})) == Wait()


def test_unreadable_start_signal_does_not_block_others() -> None:
    assert next_step(share_state(start(SECOND), unread=[FIRST])) == Run(start(SECOND))


def test_start_signal_removed_after_reading_is_not_evaluated() -> None:
    """It was withdrawn between two scans."""
    assert next_step(replace(share_state(start(FIRST)), present=())) == Wait()


@pytest.mark.parametrize("left", [Kind.LOG, Kind.FILES, Kind.RESULT])
def test_attempt_with_files_in_outbox_is_not_repeated(left: Kind) -> None:
    """Whatever its files in the outbox are: an attempt is evaluated at most once."""
    assert next_step(share_state(start(FIRST), outbox={FIRST: {left}})) == Wait()


# ------------------------------------------------------------------------------------------ undeliverable attempts


@pytest.mark.parametrize("verdict", [UNDELIVERED, REJECTED])
def test_undeliverable_attempt_is_reported(verdict: tuple[Outcome, str]) -> None:
    """With outcome and reason, although no field of it could be read."""
    assert next_step(share_state(undeliverable={FIRST: verdict})) == ReportUnplayed(FIRST, *verdict)


def test_undeliverable_genome_is_reported_and_not_evaluated() -> None:
    """The start signal itself may be valid."""
    assert next_step(share_state(start(FIRST), undeliverable={FIRST: UNDELIVERED})) == ReportUnplayed(
        FIRST, *UNDELIVERED
    )


def test_claim_with_damaged_start_signal_is_interrupted() -> None:
    """A power cut loses unflushed data; a genome that caused it must not end as "undelivered"."""
    state = share_state(undeliverable={FIRST: UNDELIVERED}, outbox={FIRST: {Kind.STARTED}})

    found = next_step(state)

    assert isinstance(found, ReportUnplayed)
    assert (found.attempt, found.outcome) == (FIRST, Outcome.INTERRUPTED)


def test_report_is_made_once() -> None:
    assert next_step(share_state(undeliverable={FIRST: UNDELIVERED}, outbox={FIRST: {Kind.RESULT}})) == Wait()


def test_reports_precede_next_evaluation() -> None:
    """The host learns at once what it must publish elsewhere; an evaluation may take half an hour."""
    state = share_state(start(SECOND), undeliverable={FIRST: UNDELIVERED})

    assert next_step(state) == ReportUnplayed(FIRST, *UNDELIVERED)


def test_undeliverable_attempt_is_reported_during_evaluation() -> None:
    state = share_state(start(SECOND), undeliverable={FIRST: REJECTED}, outbox={SECOND: {Kind.STARTED}}, running=SECOND)

    assert next_step(state) == ReportUnplayed(FIRST, *REJECTED)


# ------------------------------------------------------------------------------------------------ after a restart


def test_claim_of_earlier_run_is_interrupted() -> None:
    """claimed -> the agent restarts -> interrupted."""
    assert next_step(share_state(start(FIRST), outbox={FIRST: {Kind.STARTED}})) == INTERRUPTED


def test_incomplete_result_of_earlier_run_is_interrupted() -> None:
    """Log and artifacts were written, the result was not."""
    assert next_step(share_state(start(FIRST), outbox={FIRST: {Kind.STARTED, Kind.LOG, Kind.FILES}})) == INTERRUPTED


def test_interruption_is_reported_before_next_evaluation() -> None:
    """Even if the next start signal was published earlier."""
    state = share_state(start(FIRST, 2), start(SECOND, 1), outbox={FIRST: {Kind.STARTED}})

    assert next_step(state) == INTERRUPTED


def test_result_of_earlier_run_is_not_touched() -> None:
    """It waits until the host collects it."""
    assert next_step(share_state(start(FIRST), outbox={FIRST: {Kind.STARTED, Kind.RESULT}})) == Wait()


def test_interruption_waits_until_start_signal_was_read() -> None:
    """Its absence may not be confirmed yet, or another process has it open."""
    assert next_step(share_state(unread=[FIRST], outbox={FIRST: {Kind.STARTED}})) == Wait()


def test_claim_with_damaged_start_signal_is_interrupted_at_once() -> None:
    """The game may have crashed the machine, which damaged the signal; nothing else is claimed before the report."""
    state = share_state(start(SECOND), damaged=[FIRST], outbox={FIRST: {Kind.STARTED}})

    assert steps(state) == [INTERRUPTED, Run(start(SECOND))]


def test_damaged_start_signal_without_claim_is_no_interruption() -> None:
    """It is read again, and reported as undelivered when it is given up."""
    assert next_step(share_state(damaged=[FIRST])) == Wait()


def test_running_attempt_is_not_reported_interrupted() -> None:
    assert next_step(share_state(start(FIRST), outbox={FIRST: {Kind.STARTED}}, running=FIRST)) == Wait()


def test_running_attempt_is_not_reported_undeliverable() -> None:
    """Its start signal and genome have been read, whatever a later scan shows."""
    state = share_state(start(FIRST), undeliverable={FIRST: UNDELIVERED}, outbox={FIRST: {Kind.STARTED}}, running=FIRST)

    assert next_step(state) == Wait()


# ------------------------------------------------------------------------- claims whose publication raised an error


def test_unconfirmed_claim_is_evaluated_if_it_exists() -> None:
    """This run of the agent has not evaluated it, so the genome is not charged."""
    state = share_state(start(FIRST), outbox={FIRST: {Kind.STARTED}}, unconfirmed_claims={FIRST})

    assert next_step(state) == Run(start(FIRST))


def test_unconfirmed_claim_that_is_missing_waits_in_order() -> None:
    """None of its files exists, so it waits like any other."""
    state = share_state(start(FIRST, 2), start(SECOND, 1), unconfirmed_claims={FIRST})

    assert next_step(state) == Run(start(SECOND, 1))


def test_at_most_one_claim_at_a_time() -> None:
    """A crash in one evaluation must not leave the claim of another: the unconfirmed one comes first, or waits."""
    half = partial(share_state, outbox={FIRST: {Kind.STARTED}}, unconfirmed_claims={FIRST})

    assert next_step(half(start(FIRST, 2), start(SECOND, 1))) == Run(start(FIRST, 2))
    assert next_step(half(start(SECOND), unread=[FIRST])) == Wait()


def test_undeliverable_attempt_with_unconfirmed_claim_is_undelivered() -> None:
    """It was never evaluated, and is reported so."""
    state = share_state(undeliverable={FIRST: UNDELIVERED}, outbox={FIRST: {Kind.STARTED}}, unconfirmed_claims={FIRST})

    assert next_step(state) == ReportUnplayed(FIRST, *UNDELIVERED)


# -------------------------------------------------------------------------------------------------- unwanted attempts


def test_running_attempt_without_start_signal_is_stopped() -> None:
    """Its start signal is gone."""
    assert next_step(share_state(outbox={FIRST: {Kind.STARTED}}, running=FIRST)) == Stop(FIRST)


def test_stop_precedes_all_other_steps() -> None:
    """The worker is needed for the attempts that wait."""
    state = share_state(
        start(THIRD),
        undeliverable={SECOND: UNDELIVERED},
        outbox={FIRST: {Kind.STARTED}, SECOND: {Kind.LOG}},
        running=FIRST,
    )

    assert next_step(state) == Stop(FIRST)


def test_stopped_attempt_is_cleaned() -> None:
    """stopped -> cleaned -> the next one is evaluated."""
    state = share_state(start(SECOND), outbox={FIRST: {Kind.STARTED}}, running=FIRST)

    assert steps(state) == [Stop(FIRST), Clean(FIRST, {Kind.STARTED}), Run(start(SECOND))]


def test_restart_cleans_and_reports_before_evaluation() -> None:
    """cleaned -> interrupted, undelivered -> the next one is evaluated; each once, from a single scan."""
    fourth = attempt_id(7, 4, 1, 1, "0" * 12)
    state = share_state(
        start(SECOND, 1),
        start(fourth, 2),
        undeliverable={THIRD: UNDELIVERED},
        outbox={FIRST: {Kind.RESULT, Kind.LOG}, SECOND: {Kind.STARTED}},
    )

    assert steps(state) == [
        Clean(FIRST, {Kind.RESULT, Kind.LOG}),
        replace(INTERRUPTED, attempt=SECOND),
        ReportUnplayed(THIRD, *UNDELIVERED),
        Run(start(fourth, 2)),
    ]


def test_next_start_signal_is_tried_after_failed_run() -> None:
    """After a Run that started no evaluation the next start signal is tried; waiting changes nothing."""
    state = share_state(start(FIRST), start(SECOND, 2))

    assert next_step(apply_step(state, Run(start(FIRST)))) == Run(start(SECOND, 2))
    assert apply_step(state, Wait()) == state


@pytest.mark.parametrize("left", [*Kind])
def test_all_files_without_start_signal_are_cleaned(left: Kind) -> None:
    """Also files that an incomplete cleaning left."""
    assert next_step(share_state(outbox={FIRST: {left}})) == Clean(FIRST, {left})


def test_cleaning_precedes_reports_and_evaluations() -> None:
    """Cleaning frees a full disk."""
    state = share_state(start(THIRD), undeliverable={SECOND: UNDELIVERED}, outbox={FIRST: {Kind.RESULT}})

    assert next_step(state) == Clean(FIRST, {Kind.RESULT})


def test_other_attempts_are_cleaned_during_evaluation() -> None:
    state = share_state(start(SECOND), outbox={FIRST: {Kind.RESULT}, SECOND: {Kind.STARTED}}, running=SECOND)

    assert next_step(state) == Clean(FIRST, {Kind.RESULT})


def test_files_with_foreign_start_signal_are_not_cleaned() -> None:
    """Only the presence of a start signal counts: the host that wrote it will remove it."""
    foreign = start(FIRST, 1, OTHERS["another farm"])

    assert next_step(share_state(foreign, outbox={FIRST: {Kind.STARTED, Kind.RESULT}})) == Wait()


# --------------------------------------------------------------------------------------------------- for all states

ATTEMPTS = [attempt_id(1, genome, 1, 1, "0" * 12) for genome in (1, 2, 3, 4)]
LEFT = [None, (), (Kind.STARTED,), (Kind.RESULT,), (Kind.STARTED, Kind.RESULT), (Kind.LOG,), (Kind.STARTED, Kind.FILES)]
#: Whose start signal was read: none, the owner's, another's, or one with the name of another attempt.
READ = [None, OURS, OURS, *OTHERS.values(), "misnamed"]
SITUATIONS = list(product([True, False], READ, [None, UNDELIVERED, REJECTED], LEFT))


@st.composite
def looks(draw: st.DrawFn) -> ShareState:
    """Any scan of up to four attempts, consistent or not; publication numbers may be equal."""
    present: set[str] = set()
    starts: dict[str, StartRecord] = {}
    undeliverable: dict[str, tuple[Outcome, str]] = {}
    outbox: dict[str, Collection[Kind]] = {}
    for attempt, other in zip(ATTEMPTS, reversed(ATTEMPTS), strict=True):
        is_there, read, verdict, left = draw(st.sampled_from(SITUATIONS))
        present |= {attempt} if is_there else set()
        if isinstance(read, HostRecord):
            starts[attempt] = start(attempt, draw(st.integers(1, 9)), read)
        elif read is not None:
            starts[attempt] = start(other)
        undeliverable |= {attempt: verdict} if verdict else {}
        outbox |= {attempt: left} if left is not None else {}
    owner = draw(st.sampled_from([OURS, OURS, *OTHERS.values(), None]))
    running = draw(st.sampled_from([None, *ATTEMPTS]))
    half_claimed = draw(st.sampled_from([(), (), *((attempt,) for attempt in ATTEMPTS)]))
    return ShareState(
        owner=owner,
        present=present,
        starts=in_order(starts),
        damaged=sorted(present - starts.keys() - draw(st.sets(st.sampled_from(ATTEMPTS)))),
        undeliverable=undeliverable,
        outbox=outbox,
        running=running,
        unconfirmed_claims=half_claimed,
    )


LOOKS = looks()


@given(state=LOOKS)
@quick
def test_no_step_without_owner(state: ShareState) -> None:
    """Law 7, whatever else the share shows."""
    assert next_step(replace(state, owner=None)) == Wait()


@given(state=LOOKS)
@quick
def test_every_step_meets_its_conditions(state: ShareState) -> None:
    """Attempts to stop, clean, report or run meet all conditions for it."""
    step = next_step(state)
    match step:
        case Stop(attempt):
            assert attempt == state.running
            assert attempt not in state.present
        case Clean(attempt, kinds):
            assert kinds == state.outbox[attempt]
            assert attempt not in state.present
            assert attempt != state.running
        case ReportUnplayed(attempt, outcome, reason):
            assert attempt in state.present
            assert attempt != state.running
            assert Kind.RESULT not in state.outbox.get(attempt, ())
            assert state.undeliverable.get(attempt) == (outcome, reason) or (
                outcome is Outcome.INTERRUPTED
                and Kind.STARTED in state.outbox[attempt]
                and attempt not in state.unconfirmed_claims
                and (playable(state, attempt) or attempt in {*state.damaged, *state.undeliverable})
            )
        case Run(chosen):
            assert state.running is None
            assert waits(state, chosen.attempt)
            assert chosen.publication == min(s.publication for a, s in state.starts.items() if waits(state, a))
        case Wait():
            assert state.owner is None or state.running is not None or not any(waits(state, a) for a in state.starts)
    if not isinstance(step, Wait):
        assert state.owner is not None


@given(state=LOOKS)
@quick
def test_steps_are_taken_in_order(state: ShareState) -> None:
    """stop, clean, report, run: no later kind of step while an earlier one is due."""
    if state.owner is None:
        return
    step = next_step(state)
    unwanted = state.running is not None and state.running not in state.present
    litter = {attempt for attempt in state.outbox if attempt not in state.present and attempt != state.running}

    assert isinstance(step, Stop) is unwanted
    assert isinstance(step, Clean) is (bool(litter) and not unwanted)
    if isinstance(step, Run | Wait):
        claims = {a for a, kinds in state.outbox.items() if Kind.STARTED in kinds}
        claims = {a for a in claims if playable(state, a) or a in state.damaged} - set(state.unconfirmed_claims)
        unanswered = {a for a in state.present if Kind.RESULT not in state.outbox.get(a, ())} - {state.running}
        assert not unanswered & (state.undeliverable.keys() | claims)


@given(state=LOOKS, order=st.permutations(ATTEMPTS))
@quick
def test_order_of_listing_does_not_matter(state: ShareState, order: list[str]) -> None:
    """A file system lists names in any order, and a host never uses a publication number twice."""
    starts = {a: renumbered(s, ATTEMPTS.index(a) + 1) for a, s in state.starts.items()}
    state = replace(state, starts=in_order(starts))
    shuffled = replace(
        state,
        present=[attempt for attempt in order if attempt in state.present],
        starts=in_order({attempt: state.starts[attempt] for attempt in order if attempt in state.starts}),
        damaged=[attempt for attempt in order if attempt in state.damaged],
        undeliverable={attempt: state.undeliverable[attempt] for attempt in order if attempt in state.undeliverable},
        outbox={attempt: state.outbox[attempt] for attempt in order if attempt in state.outbox},
    )

    assert next_step(shuffled) == next_step(state)


@given(state=LOOKS)
@quick
def test_planner_reaches_run_or_wait(state: ShareState) -> None:
    """Each step removes its own cause: nothing is done twice, and in the end the agent runs an evaluation or waits."""
    done = steps(state)

    assert all(step not in done[:number] for number, step in enumerate(done))
    assert isinstance(done[-1], Run | Wait)


@given(state=LOOKS)
@quick
def test_applied_step_equals_new_scan(state: ShareState) -> None:
    """The state after a step is what a new scan would show."""
    step = next_step(state)
    later = apply_step(state, step)

    assert (later.owner, later.present, later.undeliverable) == (state.owner, state.present, state.undeliverable)
    tried = {step.start.attempt} if isinstance(step, Run) else set()  # read again at the next scan, not before
    assert dict(later.starts) == {a: record for a, record in state.starts.items() if a not in tried}
    assert later.running == (None if isinstance(step, Stop) else state.running)
    expected = {attempt: set(kinds) for attempt, kinds in state.outbox.items()}
    match step:
        case Clean(attempt, _):
            del expected[attempt]
        case ReportUnplayed(attempt):
            expected.setdefault(attempt, set()).add(Kind.RESULT)
    assert {attempt: set(kinds) for attempt, kinds in later.outbox.items()} == expected


def playable(state: ShareState, attempt: str) -> bool:
    """Law 7 a second time: present, read, and of the owner in every field."""
    found = state.starts.get(attempt)
    return (
        found is not None
        and state.owner is not None
        and attempt in state.present
        and found.attempt == attempt
        and found.farm == state.owner.farm
        and found.worker == state.owner.worker
        and found.epoch == state.owner.epoch
    )


def waits(state: ShareState, attempt: str) -> bool:
    """Whether an attempt could run if no other step were due."""
    begun = {a for a in state.unconfirmed_claims if a in state.outbox and Kind.RESULT not in state.outbox[a]}
    free = attempt in begun if begun else attempt not in state.outbox
    return playable(state, attempt) and free and attempt not in state.undeliverable


def renumbered(record: StartRecord, publication: int) -> StartRecord:
    return start(record.attempt, publication, HostRecord(farm=record.farm, worker=record.worker, epoch=record.epoch))
