"""The heap of waits, against a dictionary that is looked through each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowlib.dataflow.delays import Delays

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), st.integers(0, 20)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("due"), st.just(0), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(STEPS)
def test_against_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    """Each key comes once, when its last time has come, the earliest first, equal ones in order."""
    delays: Delays[int] = Delays()
    model: dict[int, tuple[int, int]] = {}
    for number, (what, key, value) in enumerate(steps):
        if what == "put":
            delays.put(key, value)
            model[key] = (value, number)
        elif what == "remove":
            assert delays.remove(key) == (model.pop(key, None) is not None)
        else:
            expected = [k for k, (at, _) in sorted(model.items(), key=lambda item: item[1]) if at <= value]
            assert delays.due(value) == expected
            for k in expected:
                del model[k]
        assert len(delays) == len(model)
        assert delays.next == (min(model.values())[0] if model else None)
        delays.check_invariants()


def test_removed_ones_take_no_room() -> None:
    """Ten thousand that were removed leave little behind, and clear() leaves nothing."""
    delays: Delays[int] = Delays()
    for n in range(10_000):
        delays.put(n, float(n))
    for n in range(9_990):
        assert delays.remove(n)
    delays.check_invariants()
    assert delays.next == 9990.0
    delays.clear()
    assert delays.next is None
    assert delays.due(1e9) == []
