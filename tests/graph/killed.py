"""Run as a process by test_failures (`python -m tests.graph.killed FOLDER POINT`): builds a store, and stops at a named
point until it is killed."""

from __future__ import annotations

import os
import sys
import time

import graphrec.atomic
import graphrec.graph.write
from graphrec.graph.build import build
from tests.graph.small import make_log, ring

POINTS = {
    "before the graph": (graphrec.graph.write, "save_graph"),
    "before the rename": (graphrec.atomic, "_swap"),
}


def wait(*_: object) -> None:
    print("waiting", flush=True)
    time.sleep(600)


def stop_between_the_renames() -> None:
    rename, done = os.replace, []

    def replace(*paths: object) -> None:
        if done:
            wait()
        rename(*paths)
        if str(paths[1]).endswith("old"):
            done.append(True)

    os.replace = replace


if __name__ == "__main__":
    folder, point = sys.argv[1:]
    if point == "between the renames":
        stop_between_the_renames()
    else:
        setattr(*POINTS[point], wait)
    build(make_log(ring(each=6)), folder, overwrite=True)
