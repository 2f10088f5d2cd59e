"""``irbench restore``: restore photographs that have no target. Nothing is degraded first.

Reads   a file, a folder (all photographs below it), or a pattern in quotes.
Writes  one file of the same name for each (``irbench.api.files``); the same command continues.

Interrupted by Ctrl-C or SIGTERM, it says what is kept and ends with exit code 130 or 143.

Try: ``irbench restore photos --output restored --model compacter --protocol sr-x2``
     ``irbench restore photo.jpg --output large.png --model swinir-m --protocol sr-x4``
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys

from irbench.api import files, models, pictures
from irbench.cli import common
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.core.files import expanded
from irbench.imaging import photo
from irbench.jobs import life

NAME = "restore"
HELP = ("restore photographs without targets: a file, a folder or a pattern; exit 1 if some could "
        "not be restored")
FORMATS = {"png": ".png", "jpeg": ".jpg", "tiff": ".tif", "webp": ".webp"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("inputs", metavar="IN", nargs="+",
                        help="a photograph, a folder, or a pattern such as 'photos/*.jpg'")
    parser.add_argument("--output", required=True, metavar="OUT",
                        help="the folder to write to; for one photograph also a file, whose suffix "
                             "decides the format")
    parser.add_argument("--model", required=True, help="a name (irbench list models), "
                        "FILE.py:NAME, or a file of weights")
    parser.add_argument("--protocol", help="what the model is to do, such as sr-x2; may be omitted "
                        "if its weights are for one protocol only. For noise and JPEG irbench's "
                        "own weights give the same pixels at each level")
    parser.add_argument("--weights", metavar="FILE", help="weights for a name or FILE.py:NAME")
    common.add_model_options(parser)
    parser.add_argument("--format", choices=FORMATS, help="default: png, or the suffix of OUT")
    parser.add_argument("--overwrite", action="store_true",
                        help="restore all, and replace files that exist")
    parser.add_argument("--tile", type=common.positive, metavar="PIXELS",
                        help="restore in tiles of at most this side; default: only if the whole "
                             "picture does not fit into memory")
    parser.add_argument("--data-root", metavar="FOLDER", default="data",
                        help="where fetched weights lie, in checkpoints; default: %(default)s")
    common.add_device(parser)
    parser.add_argument("--threads", type=common.workers, help="CPU threads; default: torch's")


def run(arguments: argparse.Namespace) -> int:
    """Restore the photographs; return the exit code."""
    done = files.FilesDone()
    try:
        with life.interruptible():
            return _restore(arguments, done)
    except KeyboardInterrupt as error:
        print(f"irbench: interrupted. {_kept(arguments, done)}", file=sys.stderr)
        return 143 if isinstance(error, life.Terminated) else 130


def _restore(arguments: argparse.Namespace, done: files.FilesDone) -> int:
    """Do what ``run`` does, and enter in ``done`` what became of each photograph."""
    import torch

    suffix = FORMATS.get(arguments.format)
    found = files.find(arguments.inputs, arguments.output, suffix)
    tasks = found.photos
    if suffix and tasks[0].target == expanded(arguments.output):
        raise UserError(f"--format {arguments.format}: --output {arguments.output} names a file, "
                        "whose suffix decides the format. Omit one of them.")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model = models.load_model(
        arguments.model, arguments.protocol, weights=arguments.weights,
        options=common.options_of(arguments.options),
        device=arguments.device or "auto",
        inference={"tile": arguments.tile} if arguments.tile else None,
        data_root=arguments.data_root)
    files.restore_files(tasks, model, overwrite=arguments.overwrite, done=done)
    if done.refused and len(tasks) == 1 and not found.unread:
        raise UserError(next(iter(done.refused.values())))
    done.refused |= {str(path): photo.not_read(str(path)) for path in found.unread}
    for reason in done.refused.values():
        messages.say(f"not restored: {reason}")
    messages.say(f"{len(done.restored)} restored, {len(done.skipped)} were there already, "
                 f"{len(done.refused)} refused: {arguments.output}")
    if done.gray:
        messages.say(_gray_command(arguments, done, model.protocol))
    if found.others:
        messages.say(f"{found.others} files with other suffixes were not taken" if found.others > 1
                     else "1 file with another suffix was not taken")
    print(json.dumps({
        "restored": len(done.restored), "skipped": len(done.skipped), "refused": done.refused,
        "model": model.name, "protocol": model.protocol, "device": model.device,
        "output": arguments.output}))
    return 1 if done.refused else 0


def _kept(arguments: argparse.Namespace, done: files.FilesDone) -> str:
    """Return what an interrupted command leaves to the next one, in words."""
    there = len(done.restored) + len(done.skipped)
    if not there:
        return "No photograph was finished. Run the same command again."
    # with --overwrite a result of this model is made again, too
    advice = ("With --overwrite the same command restores all of them again."
              if arguments.overwrite else "Run the same command again; it continues.")
    return (f"Kept in {messages.readable(arguments.output)}: {there} restored "
            f"photograph{'s' * (there > 1)}. {advice}")


def _gray_command(arguments: argparse.Namespace, done: files.FilesDone, protocol: str) -> str:
    """Return how to restore the gray photographs that a model for colour noise left."""
    few = done.gray[:messages.SHOWN]
    names = shlex.join(map(str, few)) + " ..." * (len(done.gray) > len(few))
    output = shlex.quote(arguments.output.rstrip("/") + "-gray")
    left = (f"{len(done.gray)} gray photographs were" if len(done.gray) > 1 else
            "1 gray photograph was")
    return (f"{left} left. By name, so that colour photographs are "
            f"not taken, and into a folder of their own: irbench restore {names} --output {output} "
            f"--model compacter --protocol {pictures.gray_counterpart(protocol)}")
