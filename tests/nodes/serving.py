"""A node's own web application and event stream over recorded blocks, on loopback.

The node's consensus and its database are absent: blocks are committed when standard input says so.
Each of its lines is a height, up to which blocks are committed. Standard output has a line when it
listens, its address, and one behind each commit, the height. All of it ends with standard input.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading

# Below what Linux gives to outgoing connections, so that a port stays free until it is used.
PORTS = range(15_000, 30_000)

PR_SET_PDEATHSIG = 1


def arguments():
    """The recorded blocks by their height, and the height to begin with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tip", type=int, required=True, help="commit blocks up to here at first")
    parser.add_argument("chain", nargs="+", help="blocks, one a line")
    given = parser.parse_args()
    lines = [line for path in given.chain for line in open(path, encoding="utf-8")]
    blocks = {block["height"]: block for block in map(json.loads, lines)}
    return blocks, given.tip


def free_port():
    """A port of loopback that was free a moment ago."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Stream:
    """The node's own stream server, in a process of its own as in the node."""

    def __init__(self, config):
        """`config` is the node's, and is told where the stream is."""
        self.events = multiprocessing.Queue()
        port = free_port()
        config["wsserver"].update(host="127.0.0.1", port=port)
        config["wsserver"].update(advertised_host="127.0.0.1", advertised_port=port)

    def start(self, serve):
        multiprocessing.Process(target=self._run, args=(serve,), daemon=True).start()

    def _run(self, serve):
        end_with_parent()
        sys.stdout = sys.stderr  # it says where it listens
        serve(self.events)


def run(create_server, commit, stream, tip):
    """Serves until SIGTERM.

    `create_server` takes gunicorn's settings, as the node's own function does. `commit` takes a
    height, stores its block, and returns the event for the stream.
    """
    for height in range(1, tip + 1):
        commit(height)
    address = "127.0.0.1:{}".format(free_port())

    def listen(_worker):
        end_with_parent()
        print("http://{}".format(address), flush=True)
        threading.Thread(target=follow_input, args=(commit, stream, tip), daemon=True).start()

    create_server({"bind": address, "workers": 1, "post_worker_init": listen}).run()


def follow_input(commit, stream, tip):
    for line in sys.stdin:
        for height in range(tip + 1, int(line) + 1):
            stream.events.put(commit(height))
        tip = int(line)
        print(tip, flush=True)
    os.kill(os.getppid(), signal.SIGTERM)  # whoever started it is gone


def end_with_parent():
    """Nothing outlives a process that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
