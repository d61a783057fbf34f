"""The command line: one small file per verb; heavy imports happen inside the verbs, so ``--help`` is instant."""

import os
import re
import signal
import sys
import traceback

import click

from rlrecbench.cli.check import check
from rlrecbench.cli.compare import compare
from rlrecbench.cli.data import data
from rlrecbench.cli.doctor import doctor
from rlrecbench.cli.inspect import inspect
from rlrecbench.cli.listing import list_, show
from rlrecbench.cli.plan import plan, validate
from rlrecbench.cli.report import report
from rlrecbench.cli.run import run
from rlrecbench.cli.score import score
from rlrecbench.cli.speed import bench
from rlrecbench.cli.status import status
from rlrecbench.errors import BenchError

INTERRUPTED, TERMINATED = 130, 143


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="rlrecbench")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Compare fine-tuning methods for generative recommenders on the same data, backbone and budget."""


_VERBS = (
    run, plan, validate, check, status, list_, show, report, compare, inspect, score, data, bench, doctor,
)  # fmt: skip
for command in _VERBS:
    cli.add_command(command)


def main() -> None:
    """Run the command line; every user's mistake is one sentence and exit status 2."""
    try:
        status = _main(sys.argv[1:])
    except KeyboardInterrupt:  # the second, while the first was being told
        status = INTERRUPTED
    if status in (INTERRUPTED, TERMINATED):  # a further one would only disturb the interpreter's end
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


def _main(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = ["--debug"] * debug + [a for a in arguments if a != "--debug"]
    try:
        status = cli.main(arguments, prog_name="rlrecbench", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.UsageError as e:
        e.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; the state is saved, run the same command again to go on", INTERRUPTED)
    except BenchError as e:
        if debug:
            traceback.print_exc()
        return _say(f"error: {e}", e.exit_status)
    except BrokenPipeError:
        return 0
    except OSError as e:  # a path that is too long, a folder that may not be entered
        if debug or e.filename is None:
            raise
        return _say(f"error: {os.fsdecode(e.filename)}: {e.strerror}; give another path or mend its permissions", 2)
    except BaseException as e:
        if type(e).__name__ == "Terminated":
            return _say("terminated; the state is saved, run the same command again to go on", TERMINATED)
        if debug or not isinstance(e, Exception):
            raise
        first = str(e).partition("\n")[0]
        return _say(f"unexpected error: {type(e).__name__}: {first} (add --debug for the traceback)", 1)


def _say(text: str, status: int) -> int:
    """Print one line; a word that fills the screen is cut."""
    line = re.sub(r"\S{300,}", lambda word: f"{word[0][:100]}...", " ".join(text.split()))
    click.echo(f"rlrecbench: {line}", err=True)
    return status
