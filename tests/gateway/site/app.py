"""An app in a container: `python app.py NAME PORT SECONDS` listens after that time, and answers with its name."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, PORT, PAUSE_S = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"ok" if self.path == "/health" else f"{NAME} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


time.sleep(PAUSE_S)
ThreadingHTTPServer(("", PORT), _Handler).serve_forever()
