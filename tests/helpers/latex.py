"""LaTeX checked without a compiler."""

import re


def balanced(source):
    """Check braces and environments; return the source without escaped characters."""
    bare = re.sub(r"\\[\\&%$#_{}]", "", source)
    depth = 0
    for letter in bare:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    return bare


def columns_of(line):
    """Columns that a LaTeX row fills."""
    spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans)
