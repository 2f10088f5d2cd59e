"""Regular expressions from people: those in use are taken, those that may take for ever are not."""

import re
import time

import pytest

from irbench.catalog import patterns

GOOD = ["_lq$", "_x2$", r"^\d+_", "(?:_lr|_x[234])$", ".*_(?=[0-9])", "[a-z]{2,4}", "x", "(_a)?b",
        r"^.*_(\d+)$", "(?i)_LQ", "a{1000}", "_[0-9a-f]{8}$", "(?:ab){3}", ""]
SLOW = ["(a+)+$", "(a*)*b", "(a|a)*x|(ab|b)*c", "(?:a?){30}a{30}", "(x+x+)+y", "((a|b|ab)+)c",
        "(?:(?:a?)b?)*c", r"(.)\1+", r"(a)(?(1)b|c)", "a*a*a*b", "a?" * 30 + "a" * 30,
        "(ab|cd)" * 9, "(?=(a+)+$)b", "(?>(a+)+)b", "(a+)++b", "x" * 201]
WRONG = ["(", "[", "*", "(?P<a", None, 5, ["a"], "a{99999999999999999999}"]


@pytest.mark.parametrize("pattern", GOOD)
def test_usual_patterns_are_taken(pattern):
    assert patterns.problem(pattern) == ""
    assert re.compile(pattern)


@pytest.mark.parametrize("pattern", SLOW)
def test_patterns_that_may_take_for_ever_are_refused(pattern):
    assert "for ever" in patterns.problem(pattern) or "longer than" in patterns.problem(pattern)


@pytest.mark.parametrize("pattern", WRONG)
def test_what_is_no_pattern_is_refused(pattern):
    assert patterns.problem(pattern).startswith("not a ")


@pytest.mark.parametrize("pattern", [*GOOD, "[ab]*[ab]*c", "a?a?a?a*b"])
def test_a_pattern_that_is_taken_ends_soon_on_a_long_name(pattern):
    assert patterns.problem(pattern) == ""
    begun = time.process_time()
    re.sub(pattern, "", "a" * 250 + "!")
    assert time.process_time() - begun < 5
