"""The server under load: 32 clients for a minute, a promotion in the middle; errors, latencies, memory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from flows.client import Client, ClientError
from storage.filters import eq
from storage.spaces import publish, published
from storage.workspace import Workspace
from tests.benchmarks.flickr8k import data
from tests.benchmarks.measured import modalign
from tests.benchmarks.results import record, table

READY = os.environ.get("MODALIGN_BENCH_SPACE")
"""A workspace with a published space of pictures and captions, which is copied; without it one is made of Flickr8k."""
CLIENTS, SECONDS = 32, 60.0


@dataclass
class Seen:
    """What the clients have seen: seconds of each answer, the spaces that answered, errors."""

    seconds: list[float] = field(default_factory=list)
    spaces: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main() -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        if READY:
            shutil.copytree(READY, root)
        else:
            modalign(["run", str(data()), "--profile", "small", "-w", str(root)])
        workspace = Workspace(root=root)
        name, manifest = published(workspace.store)
        texts = workspace.store.strings(manifest["index"]["table"], "text", eq("modality", "text"))
        queries = sorted({text for text in texts if text})[:: max(len(texts) // 997, 1)]
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            port = place.getsockname()[1]
        words = [sys.executable, "-m", "flows", "serve", "--no-page", "-w", str(root), "--port", str(port)]
        process = subprocess.Popen(words)
        try:
            told = _under_load(process.pid, f"http://127.0.0.1:{port}", queries, workspace, name)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    record("serving", "The server under load", told)


def _under_load(pid: int, url: str, queries: list[str], workspace: Workspace, name: str) -> str:
    _await(url)
    over = threading.Event()
    seen = [Seen() for _ in range(CLIENTS)]
    threads = [
        threading.Thread(target=_ask, args=(url, queries[number::CLIENTS], seen[number], over))
        for number in range(CLIENTS)
    ]
    server = psutil.Process(pid)
    memory = [("before", server.memory_info().rss)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for share, what in ((1 / 6, "after 10 s"), (1 / 2, "after 30 s"), (5 / 6, "after 50 s"), (1, "after 60 s")):
        time.sleep(max(start + share * SECONDS - time.monotonic(), 0))
        memory.append((what, server.memory_info().rss))
        if share == 1 / 2:
            _promote(workspace, name)
    over.set()
    for thread in threads:
        thread.join()
    spent = time.monotonic() - start
    took = np.array([one for each in seen for one in each.seconds]) * 1_000
    errors = [one for each in seen for one in each.errors]
    spaces = sorted({one for each in seen for one in each.spaces})
    rows = [[CLIENTS, len(took), len(errors), len(took) / spent, *np.percentile(took, [50, 95, 99]).tolist()]]
    columns = ["clients", "answers", "errors", "answers a second", "p50 ms", "p95 ms", "p99 ms"]
    sizes = ", ".join(f"{what} {value / 2**20:.0f}" for what, value in memory)
    return (
        f"`modalign serve --no-page` over {name}; each client asks for the ten nearest pictures to a caption (hybrid), "
        "one after the other, over loopback; clients and server share the cores. A promotion after 30 s: the same "
        f"vectors under another id; answers came from {len(spaces)} ids. Resident memory in MB: {sizes}."
        f"\n\n{table(columns, rows)}"
    )


def _promote(workspace: Workspace, name: str) -> None:
    _, manifest = published(workspace.store, name)
    other = manifest | {"space": manifest["space"] | {"space_id": f"{manifest['space']['space_id'][:-1]}x"}}
    publish(workspace.store, name, other)


def _ask(url: str, queries: list[str], seen: Seen, over: threading.Event) -> None:
    with Client(url) as client:
        while not over.is_set():
            for query in queries:
                start = time.perf_counter()
                try:
                    answer = client.search(query, target="image", k=10)
                except ClientError as error:
                    seen.errors.append(str(error))
                    continue
                seen.seconds.append(time.perf_counter() - start)
                seen.spaces.append(answer.space_id)
                if over.is_set():
                    break


def _await(url: str) -> None:
    with Client(url) as client:
        for _ in range(600):
            try:
                client.search("a dog", target="image")
                return
            except ClientError:
                time.sleep(0.2)
    raise RuntimeError(f"the server at {url} does not answer")


if __name__ == "__main__":
    main()
