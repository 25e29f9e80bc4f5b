"""A minimal client: sends files to signed URLs with concurrent plain HTTP PUTs, as fast as it can.

    python -I -S plain_put.py LIST CONNECTIONS

LIST is a JSON file of [path, url] pairs. It prints the seconds from its first request to its last answer. Nothing is
hashed. Files are read and written in large blocks, and not handed to sendfile(2): over TLS no client could.
Imports nothing of the project.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import sys
import threading
import time
from urllib.parse import urlsplit

BLOCK = 1 << 20


def send_all(waiting: queue.SimpleQueue[tuple[str, str]], address: str, faults: list[str]) -> None:
    """Send files until none is left, over one connection."""
    connection = http.client.HTTPConnection(address, blocksize=BLOCK)
    while True:
        try:
            path, url = waiting.get_nowait()
        except queue.Empty:
            connection.close()
            return
        with open(path, "rb") as file:
            connection.request(
                "PUT", urlsplit(url).path, file, {"Content-Length": str(os.fstat(file.fileno()).st_size)}
            )
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            faults.append(f"{path}: {answer.status}")


def main() -> None:
    """Send them."""
    with open(sys.argv[1], encoding="utf-8") as file:
        pairs = json.load(file)
    waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for path, url in pairs:
        waiting.put((path, url))
    address = urlsplit(pairs[0][1]).netloc
    faults: list[str] = []
    began = time.monotonic()
    threads = [threading.Thread(target=send_all, args=(waiting, address, faults)) for _ in range(int(sys.argv[2]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        sys.exit("\n".join(faults[:10]))
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()
