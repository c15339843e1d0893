"""The first Ctrl+C asks, the second ends at once, and afterwards the key does what it did before."""

import signal
import threading

import pytest

from headswap.cli.interruption import Interruption


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
    with Interruption() as stop:
        stop.wait("")
        for number in stop.until(counted(closed)):
            heard.append(number)
            if number == 3:
                signal.raise_signal(signal.SIGINT)
    assert heard == [0, 1, 2, 3] and closed == [True] and stop.pressed


def test_without_a_press_all_events_come():
    with Interruption() as stop:
        stop.wait("")
        assert list(stop.until(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert not stop.pressed


def test_the_second_press_raises_with_its_words():
    with Interruption() as stop:
        stop.wait("Ended.")
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt, match=r"Ended\."):
            signal.raise_signal(signal.SIGINT)


def test_the_first_press_raises_where_nothing_waits_for_it():
    with Interruption("Too early.") as stop:
        with pytest.raises(KeyboardInterrupt, match=r"Too early\."):
            signal.raise_signal(signal.SIGINT)
        assert stop.pressed
    with Interruption() as stop:
        stop.wait("")
        stop.at_once("Late.")
        with pytest.raises(KeyboardInterrupt, match=r"Late\."):
            signal.raise_signal(signal.SIGINT)


def test_a_thread_that_hears_no_signals_changes_nothing():
    found = []

    def work():
        with Interruption() as stop:
            stop.wait("")
            found.append((signal.getsignal(signal.SIGINT), list(stop.until(iter("ab")))))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(signal.getsignal(signal.SIGINT), ["a", "b"])]


def test_a_key_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as stop:
            stop.wait("")
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
