"""A DNS server for one test: answers A queries from a table, and everything else with SERVFAIL."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.netns import Place

SERVFAIL = 2


class NameServer:
    """Serves UDP on 127.0.0.1:53 of its namespace. `table` may change at any time; `asked` lists the queried names."""

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
                query, client = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        """Return header, the question as received, and one A record if the table has the name (RFC 1035, 4.1)."""
        labels, end = [], 12
        while query[end]:
            labels.append(query[end + 1 : end + 1 + query[end]].decode())
            end += 1 + query[end]
        question, kind = query[12 : end + 5], struct.unpack_from("!H", query, end + 1)[0]
        name = ".".join(labels).lower()
        self.asked.append(name)
        address = self.table.get(name)
        code = 0 if address else SERVFAIL
        has_record = address is not None and kind == 1
        head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, int(has_record), 0, 0)
        if not has_record or address is None:
            return head + question
        return head + question + struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)


@contextmanager
def name_server(place: Place) -> Iterator[NameServer]:
    """Run a DNS server in a network namespace."""
    server = NameServer(place)
    server.start()
    try:
        yield server
    finally:
        server.stop()
