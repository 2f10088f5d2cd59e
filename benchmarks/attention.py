"""Time and peak memory of every attention implementation and of dense attention, over N and k.

See ``irbench/jobs/profiling/attention.py`` for how it is measured; ``irbench bench attention`` does
the same
and can keep a record. Reads nothing, writes a table to stderr and one JSON document as the last
line of stdout. The exit code does not depend on the goals: they were set for other devices.

Try: ``python benchmarks/attention.py --n 64 256 --k 16 64 --samples 3``
"""

from __future__ import annotations

import argparse
import json
import sys

from irbench.core import machine
from irbench.core.errors import UserError
from irbench.inference import allocator
from irbench.jobs.profiling import attention, profile


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[64, 256, 1024],
                        help="tokens of a window")
    parser.add_argument("--k", type=int, nargs="+", default=[64, 128, 192, 256, 384, 512],
                        help="keys of a token; those above an N are left out there")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--head-dim", type=int, default=30)
    parser.add_argument("--samples", type=int, default=5, help="timed rounds")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before that are not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    parser.add_argument("--implementations", nargs="+", help="default: all")
    arguments = parser.parse_args()
    allocator.keep()
    try:
        device, reason = profile.pick_device(arguments.device)
        print(f"device {device}: {reason}", file=sys.stderr)
        found = attention.run(**{**vars(arguments), "device": device})
    except UserError as error:
        parser.error(str(error))
    print(attention.table(found), file=sys.stderr)
    about = machine.provenance(found["threads"])
    print(json.dumps({**found, "hardware": about["hardware"], "time": about["time"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
