"""What holds for every kind of test."""

import signal

import pytest

pytest.register_assert_rewrite("tests.support")

pytest_plugins = ["tests.support.fixtures"]


def pytest_configure() -> None:
    # A shell has what it starts in the background ignore SIGINT and SIGQUIT, nohup SIGHUP, and so
    # would all that tests start, of which some are to be ended so. What is handled here is not
    # ignored there.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, lambda *_: None),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
