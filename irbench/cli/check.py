"""``irbench check``: compare a run with a baseline, as a gate in continuous integration.

Reads   a run folder (by default the config's), whose results must come from the present code and
        inputs, a baseline and tolerances. Writes only what ``--output`` names. Imports no torch.

Try: ``irbench check --baseline baselines/photos.json``
     ``irbench check results/photos --baseline baselines/photos.json --exact --format junit``
"""

from __future__ import annotations

import argparse
import traceback
from pathlib import Path

from irbench.cli import common, compare, output, results
from irbench.compare import gate, gate_formats, loading, tolerances
from irbench.core.errors import UserError

NAME = "check"
HELP = "compare a run with a baseline: a gate for continuous integration"
FORMATS = (*compare.FORMATS, "github")
EXIT_CODES = ("exit codes: 0 no regression, 1 regression, 2 invalid options or files, "
              "3 nothing was compared, or no score although both have some")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config(parser)
    parser.epilog = EXIT_CODES
    parser.add_argument("run", metavar="RUN", nargs="?",
                        help="a run folder; default: that of the config")
    parser.add_argument("--baseline", required=True, metavar="FILE",
                        help="from irbench baseline write; or another run folder")
    parser.add_argument("--tolerances", metavar="FILE",
                        help="YAML file that overrides parts of irbench's catalog/tolerances.yaml")
    parser.add_argument("--speed", action="store_true", help="time or memory beyond the tolerances "
                        "is a regression, not advice")
    parser.add_argument("--exact", action="store_true", help="pictures that changed although "
                        "weights, model, data and protocol did not are a regression, not advice")
    parser.add_argument("--strict-weights", action="store_true", help="other weights from a file "
                        "must score significantly better, by more than the tolerances; default: "
                        "better, or equal within the tolerances")
    parser.add_argument("--complete", action="store_true", help="a cell of the baseline that the "
                        "run does not contain is a regression, not a note")
    results.add_stored(parser)
    output.add_output(parser, FORMATS)


def run(arguments: argparse.Namespace) -> int:
    """Check the run and print the findings; return the exit code."""
    try:
        return _gate(arguments)
    except (UserError, OSError):
        raise
    except Exception:           # a bug in irbench is not a regression, which is exit code 1
        traceback.print_exc()
        return 2


def _gate(arguments: argparse.Namespace) -> int:
    base = loading.load(arguments.baseline)
    new = (results.of_folder(arguments.run, arguments.stored) if arguments.run
           else results.of_config(arguments.config, arguments.stored))
    limits = tolerances.load(arguments.tolerances)      # may name the metrics of these runs
    if Path(base.where).resolve() == Path(new.where).resolve():
        raise UserError(f"{base.where}: the run and its baseline are the same. Give --baseline "
                        "a file that irbench baseline write made earlier.")
    result = gate.check(base, new, limits, speed=arguments.speed,
                        exact=arguments.exact, complete=arguments.complete,
                        strict_weights=arguments.strict_weights)
    output.write(arguments, gate_formats.FORMATS, result, gate_formats.counts(result))
    return result.code
