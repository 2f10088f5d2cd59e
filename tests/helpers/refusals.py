"""Refusals that give code: the code is run, because a reader will run it."""

import re

import numpy as np
import pytest

import irbench


def followed(array, use):
    """The array that the message about a refused ``array`` says to give instead."""
    with pytest.raises(irbench.UserError) as refused:
        use(array)
    code = re.search(r"(?:give|as|off|first):? ((?:array|numpy)\b.*)\.$", str(refused.value))
    assert code, refused.value
    return eval(code[1], {"numpy": np, "array": array})
