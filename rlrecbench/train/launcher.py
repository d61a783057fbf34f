"""Starts the processes of one training with accelerate's launcher; run by its path, so that it imports no more.

It ends with whoever started it, writes how its processes ended where one failed, and knows nothing of what they do.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

LAUNCHER = "RLRECBENCH_LAUNCHER"  # holds the launcher's process number where it has started the others


def main(desk: Path) -> int:
    """Start the processes and wait for their end.

    Args:
        desk: The folder with ``order.json``; a failure leaves ``ended.json`` there.
    """
    leave_with_parent(os.getppid())
    os.environ[LAUNCHER] = str(os.getpid())
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    order = json.loads((desk / "order.json").read_text())
    words = {  # all that a machine's own accelerate configuration could fill in
        "num_processes": order["processes"],
        "num_cpu_threads_per_process": order["threads"],
        "num_machines": 1,
        "machine_rank": 0,
        "main_process_port": 0,  # a free one
        "gpu_ids": "all",
        "mixed_precision": "no",  # what the training itself asks for counts
        "dynamo_backend": "no",
    }
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    arguments = ["--multi_gpu", *options, "--module", "rlrecbench.train.processes", str(desk)]  # on CPUs too: torchrun
    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as e:
        ended = [[rank, failure.exitcode, failure.signal_name()] for rank, failure in e.failures.items()]
        (desk / "ended.json").write_text(json.dumps(ended))
        return 1
    return 0


def leave_with_parent(parent: int, every_s: float = 0.2) -> None:
    """Kill this process as soon as the one that started it is no more, so that none trains on unseen."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
