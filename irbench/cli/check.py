"""``irbench check``: hold a run against a baseline, the gate of a continuous integration.

Reads   a run folder (or the config's, whose results must be of today's code and inputs), a baseline
        and tolerances. Writes only what ``--output`` names. No torch is imported.

Try: ``irbench check --baseline baselines/photos.json``
     ``irbench check results/photos --baseline baselines/photos.json --exact --format junit``
"""

from __future__ import annotations

import argparse
import traceback
from pathlib import Path

from irbench.cli import common, compare, output
from irbench.compare import gate, gate_formats, loading, tolerances
from irbench.core.errors import UserError

NAME = "check"
HELP = "hold a run against a baseline: the gate of a continuous integration"
FORMATS = (*compare.FORMATS, "github")
EXIT_CODES = ("exit codes: 0 no regression, 1 regression, 2 misuse (a bad file or argument), "
              "3 nothing was compared")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config(parser)
    parser.epilog = EXIT_CODES
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run folder; default: that of the "
                        "config, whose results must be of today's code and inputs")
    parser.add_argument("--baseline", required=True, metavar="FILE",
                        help="as irbench baseline write makes it; or another run folder")
    parser.add_argument("--tolerances", metavar="FILE",
                        help="YAML; default: irbench's catalog/tolerances.yaml, which it changes")
    parser.add_argument("--speed", action="store_true", help="slower or larger in memory than the "
                        "tolerances let pass is a regression, not advice")
    parser.add_argument("--exact", action="store_true", help="pictures that changed though "
                        "weights, model, data and protocol did not are a regression, not advice")
    parser.add_argument("--complete", action="store_true", help="a cell of the baseline that the "
                        "run does not ask for is a regression, not a note")
    output.add_output(parser, FORMATS)


def run(arguments: argparse.Namespace) -> int:
    """Check the run and print the findings; return the exit code."""
    try:
        return _gate(arguments)
    except UserError:
        raise
    except Exception:           # a defect of ours is no regression: exit code 1 is taken
        traceback.print_exc()
        return 2


def _gate(arguments: argparse.Namespace) -> int:
    base = loading.load(arguments.baseline)
    new = loading.load(arguments.run) if arguments.run else loading.of_config(arguments.config)
    limits = tolerances.load(arguments.tolerances)      # may name the metrics of these runs
    if Path(base.where).resolve() == Path(new.where).resolve():
        raise UserError(f"{base.where}: the run and its baseline are the same, which shows "
                        "nothing. Give --baseline a file that irbench baseline write made earlier.")
    result = gate.check(base, new, limits, speed=arguments.speed,
                        exact=arguments.exact, complete=arguments.complete)
    output.write(arguments, gate_formats.FORMATS, result, gate_formats.counts(result))
    return result.code
