"""A name server for one test: answers A questions from a table, and SERVFAIL for everything else."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.netns import Place

SERVFAIL = 2


class NameServer:
    """Serves UDP on 127.0.0.1:53 of its place. Change `table` at will; `asked` holds the names asked for."""

    def __init__(self, place: Place) -> None:
        self.table: dict[str, str] = {}
        self.asked: list[str] = []
        with place.inside():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind(("127.0.0.1", 53))
        self._socket.settimeout(0.2)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._done.is_set():
            try:
                question, client = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        """RFC 1035, 4.1: header, the question as it came, and one A record where the table has the name."""
        labels, end = [], 12
        while question[end]:
            labels.append(question[end + 1 : end + 1 + question[end]].decode())
            end += 1 + question[end]
        asked, kind = question[12 : end + 5], struct.unpack_from("!H", question, end + 1)[0]
        name = ".".join(labels).lower()
        self.asked.append(name)
        address = self.table.get(name)
        code = 0 if address else SERVFAIL
        has_record = address is not None and kind == 1
        head = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, int(has_record), 0, 0)
        if not has_record or address is None:
            return head + asked
        return head + asked + struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)


@contextmanager
def name_server(place: Place) -> Iterator[NameServer]:
    """A name server that runs, and is gone afterwards."""
    server = NameServer(place)
    server.start()
    try:
        yield server
    finally:
        server.stop()
