"""Receives webhooks as a service would: a real HTTP server, events read with the CloudEvents SDK, signatures verified with the
library of Standard Webhooks.

Arguments: the port to listen at, 0 for a free one, and the secret, or `-`. What a path answers is told by its first part, see
`answer`. Prints the port, then each request as a line of JSON before it is answered. `https` when a certificate and its key
follow.
"""

import json
import ssl
import sys
import threading
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.http import from_http
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

PORT, SECRET, *CERTIFICATE = sys.argv[1:]
SEEN = Counter()
LOCK = threading.Lock()
# Never set: who waits for it hangs.
NEVER = threading.Event()


def answer(path, times):
    """Status and headers for the request that comes so many times for the same event at this path."""
    kind, _, argument = path.strip("/").partition("/")
    match kind:
        case "ok":
            return 204, {}
        case "status":
            return int(argument), {}
        case "flaky":
            return (503, {}) if times < 3 else (200, {})
        case "busy":
            return (429, {"retry-after": "1"}) if times == 1 else (202, {})
        case "redirect":
            return 307, {"location": f"http://127.0.0.1:{argument}/ok"}
        case "endless":
            return 200, {"content-length": str(1 << 40)}
        case "hang":
            NEVER.wait()
    return 500, {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        event = from_http(self.headers, body)
        binary = "ce-id" in self.headers
        # This version of the SDK leaves what is percent-encoded in headers as it is.
        decoded = urllib.parse.unquote if binary else str
        id = self.headers["webhook-id"]
        seen = {
            "path": self.path,
            "event": {name: decoded(str(value)) for name, value in event.get_attributes().items()},
            "data": event.data.decode() if isinstance(event.data, bytes) else event.data,
            "id": id,
            "kind": self.headers["content-type"],
            "host": self.headers["host"],
            "signed": "webhook-signature" in self.headers,
            "verified": self.verified(body),
        }
        with LOCK:
            SEEN[(self.path, id)] += 1
            times = SEEN[(self.path, id)]
            print(json.dumps(seen), flush=True)
        status, headers = answer(self.path, times)
        self.send_response(status)
        if status != 204 and "content-length" not in headers:
            headers["content-length"] = "0"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if int(headers.get("content-length", 0)) > 0:
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                self.close_connection = True

    def verified(self, body):
        if SECRET == "-":
            return None
        try:
            Webhook(SECRET).verify(body, dict(self.headers), json_parse=False)
            return True
        except WebhookVerificationError:
            return False

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


server = Server(("127.0.0.1", int(PORT)), Handler)
if CERTIFICATE:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*CERTIFICATE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
