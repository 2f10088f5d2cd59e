"""``irbench checkpoints``: list, show, export and import weights.

Reads   headers of local files; a config names the run, ``data_root`` and plugins.
Writes  ``export``: the named file, or a bundled file and the catalog of these; ``import``:
        DATA_ROOT/checkpoints/NAME.safetensors.

Try: ``irbench checkpoints list``
     ``irbench checkpoints show compacter-demosaic-rggb``
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

from irbench.catalog import protocols
from irbench.cli import common, output
from irbench.core import digests
from irbench.core.errors import UserError
from irbench.core.run_folder import RESULTS, RunFolder
from irbench.models import registry
from irbench.plan import config as configs
from irbench.weights import bundled, cards, export, storage

NAME = "checkpoints"
HELP = "list, show, export and import weights"
ACTIONS = {
    "list": "show all local weights: bundled, imported or fetched, trained by runs",
    "show": "show a file's card: architecture, training, cost, scores and their gap to the "
            "published values",
    "export": "write a finished training's weights as one self-describing file",
    "import": "check weights from elsewhere against their model and store them in "
              "DATA_ROOT/checkpoints",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, text in ACTIONS.items():
        sub = actions.add_parser(action, help=text, description=text)
        common.add_config(sub, "default: %(default)s"
                          + ("" if action == "export" else ", if it exists"))
        if action != "export":
            common.add_data_root(sub)
    for action in ("list", "show"):
        actions.choices[action].add_argument("--json", action="store_true",
                                             help="print JSON with all details")
    actions.choices["show"].add_argument("name", metavar="NAME_OR_PATH",
                                         help="a name from the list, or a file")
    sub = actions.choices["export"]
    sub.add_argument("--protocol", required=True,
                     help="protocol of the training, e.g. sr-x2 or denoise_color-blind")
    sub.add_argument("--model", required=True, help="a name under `models` in the config")
    to = sub.add_mutually_exclusive_group(required=True)
    output.add_file(sub, "--output", "a .safetensors file", (".safetensors",), group=to,
                    content=_foreign)
    to.add_argument("--bundle", action="store_true",
                    help="add it to irbench's bundled weights, and update their catalog")
    sub.add_argument("--float32", action="store_true",
                     help="keep single precision; default: half precision, half the size")
    sub.add_argument("--best", action="store_true",
                     help="the weights with the best validation instead of the last ones")
    sub = actions.choices["import"]
    sub.add_argument("file", type=Path, metavar="FILE",
                     help="a file that irbench exported or trained, or a state dict (.safetensors, "
                     ".pth, .pt, .ckpt) with --model and --protocol")
    sub.add_argument("--model", metavar="ARCH", help="a model of irbench list models")
    sub.add_argument("--protocol", help="protocol of the weights, e.g. sr-x2 or (with --levels) "
                     "denoise_color-blind")
    common.add_model_options(sub, "options that differ from the model's defaults")
    sub.add_argument("--levels", metavar="K=LOW,HIGH",
                     help="the range of a blind model, e.g. sigma=15,50")
    sub.add_argument("--name", help="default: from the file")
    sub.add_argument("--weights-key", metavar="KEY",
                     help="which set of weights, if the file has several, e.g. params_ema")
    sub.add_argument("--sha256", help="the expected digest of the file")


def _foreign(path: Path) -> str:
    return "" if storage.read_header(path) else "holds weights that irbench did not write"


def run(arguments: argparse.Namespace) -> int:
    """Do one action; return the exit code."""
    try:
        return {"list": _list, "show": _show, "export": _export,
                "import": _import}[arguments.action](arguments)
    except BrokenPipeError:
        raise  # the reader of our output has closed the pipe
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{where}{error.strerror or error}.") from None


def _settings(arguments: argparse.Namespace) -> dict:
    """Return the config's folders, catalogs and plugins; the config is optional."""
    settings = (configs.load(arguments.config) if common.has_config(arguments)
                else {"catalog_paths": [], "plugins": [], "data_root": "data"})
    return {"data_root": Path(arguments.data_root or settings["data_root"]),
            "catalogs": tuple(settings["catalog_paths"]), "plugins": tuple(settings["plugins"])}


def _list(arguments: argparse.Namespace) -> int:
    found = cards.listing(_settings(arguments)["data_root"], RESULTS)
    if not arguments.json:
        print(cards.table(found) if found else "no weights found")
        return 0
    print(json.dumps({"checkpoints": [cards.as_dict(one) for one in found]}))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    one = cards.find(arguments.name, settings["data_root"], RESULTS)
    if arguments.json:
        print(json.dumps(cards.full_card(one, settings["plugins"])))
    else:
        print(cards.card(one, settings["plugins"]))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    if arguments.output and arguments.output.suffix != ".safetensors":
        raise UserError(f"--output {arguments.output}: the file is written as safetensors. End its "
                        "name in .safetensors.")
    config = configs.load(arguments.config)
    data, header = export.export(
        RunFolder.of_run(config["run"]).path,
        _scope(arguments.protocol, tuple(config["catalog_paths"])), arguments.model,
        half=not arguments.float32,
        best=arguments.best, command=_command(arguments))
    path = arguments.output or bundled.add(data, header)
    if arguments.output:
        output.write_file("--output", path, data)
    print(json.dumps({"file": str(path), "sha256": digests.file_digest(path), "bytes": len(data),
                      "scores": len(header["scores"])}))
    return 0


def _scope(name: str, catalogs: tuple[str, ...]) -> str:
    """Return the name of the training for a protocol, which may be that of another version."""
    return next((one.training_id for one in protocols.catalog(catalogs).values()
                 if one.id == name), name)


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that repeats the training, with a config path relative to this folder."""
    config = Path(arguments.config)
    if config.is_absolute() and config.is_relative_to(Path.cwd()):
        config = config.relative_to(Path.cwd())
    scope = arguments.protocol.partition("@")[0]
    return (f"irbench train --config {shlex.quote(str(config))} --protocol {scope} "
            f"--model {arguments.model}")


def _import(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    path, header = export.import_weights(
        arguments.file, settings["data_root"], export.Wanted(
            arguments.model, arguments.protocol, common.options_of(arguments.options),
            _levels(arguments.levels), arguments.sha256, arguments.name, settings["plugins"],
            settings["catalogs"], arguments.weights_key))
    print(json.dumps({"file": str(path), "arch": header["arch"], "protocol": header["protocol"],
                      "config": _config_line(path, header, settings["plugins"])}))
    return 0


def _config_line(path: Path, header: dict, plugins: tuple[str, ...]) -> str:
    """Return the line under ``models`` of a config that uses the file."""
    usual = registry.get(header["arch"], plugins).options
    entry = {"options": {name: value for name, value in header["options"].items()
                         if value != usual.get(name)}, "checkpoint": str(path)}
    # JSON is also YAML
    return f"{header['arch']}: {json.dumps({k: v for k, v in entry.items() if v})}"


def _levels(given: str | None) -> dict | None:
    if given is None:
        return None
    name, _, ends = given.partition("=")
    try:
        low, high = (int(end) if re.fullmatch("[0-9]{1,9}", end.strip()) else float(end)
                     for end in ends.split(","))
    except ValueError:
        raise UserError(f"--levels {given}: give NAME=LOW,HIGH, such as sigma=15,50.") from None
    return {name: [low, high]}
