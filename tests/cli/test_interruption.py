"""The first Ctrl+C asks, the second ends at once, and afterwards the key does what it did before."""

import signal
import threading

import pytest

from headswap.cli.interruption import InterruptHandler


@pytest.fixture(autouse=True)
def as_it_was():
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


def counted(closed):
    try:
        yield from range(10)
    finally:
        closed.append(True)


def test_the_first_press_is_heard_between_two_events_and_closes_their_generator():
    closed, heard = [], []
    with InterruptHandler() as stop:
        stop.defer("")
        for number in stop.until_interrupted(counted(closed)):
            heard.append(number)
            if number == 3:
                signal.raise_signal(signal.SIGINT)
    assert heard == [0, 1, 2, 3] and closed == [True] and stop.is_interrupted


def test_without_a_press_all_events_come():
    with InterruptHandler() as stop:
        stop.defer("")
        assert list(stop.until_interrupted(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert not stop.is_interrupted


def test_the_second_press_raises_with_its_words():
    with InterruptHandler() as stop:
        stop.defer("Ended.")
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt, match=r"Ended\."):
            signal.raise_signal(signal.SIGINT)


def test_the_first_press_raises_where_nothing_waits_for_it():
    with InterruptHandler("Too early.") as stop:
        with pytest.raises(KeyboardInterrupt, match=r"Too early\."):
            signal.raise_signal(signal.SIGINT)
        assert stop.is_interrupted
    with InterruptHandler() as stop:
        stop.defer("")
        stop.raise_immediately("Late.")
        with pytest.raises(KeyboardInterrupt, match=r"Late\."):
            signal.raise_signal(signal.SIGINT)


def test_a_thread_that_hears_no_signals_changes_nothing():
    found = []

    def work():
        with InterruptHandler() as stop:
            stop.defer("")
            found.append((signal.getsignal(signal.SIGINT), list(stop.until_interrupted(iter("ab")))))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(signal.getsignal(signal.SIGINT), ["a", "b"])]


def test_a_key_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with InterruptHandler() as stop:
            stop.defer("")
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
