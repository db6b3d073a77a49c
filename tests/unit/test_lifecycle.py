"""The one table of a job's life."""

import pytest

from scheduling.core.lifecycle import (
    FINAL,
    HOLDING,
    REASONS,
    TABLE,
    EndReason,
    IllegalMove,
    JobEvent,
    JobState,
    final_state,
    next_state,
)

S, E, R = JobState, JobEvent, EndReason


def test_a_launch_walks_from_the_queue_to_running():
    state = S.QUEUED
    for event in (E.PLACE, E.LAUNCHED, E.READY):
        state = next_state(state, event)
    assert state is S.RUNNING


@pytest.mark.parametrize(
    ("reason", "final"),
    [
        (R.SUCCEEDED, S.SUCCEEDED),
        (R.EXITED, S.FAILED),
        (R.CANCEL, S.CANCELLED),
        (R.TIMED_OUT, S.TIMED_OUT),
        (R.LAUNCH_REFUSED, S.FAILED),
        (R.PORTAL_STOPPED, S.CANCELLED),
    ],
)
def test_the_final_state_follows_from_the_reason(reason, final):
    assert next_state(S.STOPPING, E.RELEASED, reason=reason) is final


@pytest.mark.parametrize("reason", [R.EVICT, R.NODE_LOST, R.GPU_SICK])
def test_work_that_lost_its_place_goes_back_to_the_queue_if_it_may_run_again(reason):
    assert final_state(reason, requeue=True) is S.QUEUED
    assert final_state(reason, requeue=False) is S.FAILED


def test_work_that_somebody_stopped_is_never_requeued():
    assert final_state(R.CANCEL, requeue=True) is S.CANCELLED


def test_a_final_state_has_no_way_out():
    assert not [move for move in TABLE if move[0] in FINAL]


def test_every_live_state_can_be_cancelled():
    for state in set(S) - FINAL - {S.STOPPING}:
        event = E.END if state is S.QUEUED else E.STOP
        assert R.CANCEL in REASONS[state, event]


def test_every_state_that_holds_a_slot_ends_only_through_stopping():
    for state in HOLDING - {S.STOPPING}:
        ends = {target for (origin, _), target in TABLE.items() if origin is state}
        assert not ends & FINAL
        assert None not in ends


def test_a_move_that_the_table_lacks_is_refused():
    with pytest.raises(IllegalMove):
        next_state(S.QUEUED, E.READY)


def test_a_reason_that_does_not_belong_to_the_state_is_refused():
    with pytest.raises(IllegalMove):
        next_state(S.PLACED, E.STOP, reason=R.IDLE)


def test_stopping_without_a_reason_cannot_end():
    with pytest.raises(IllegalMove):
        next_state(S.STOPPING, E.RELEASED)
