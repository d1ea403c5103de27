"""An endpoint on this machine that does as it is told."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def said(content):
    """The body of a chat completion."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


class Endpoint:
    """Answers each call with the next step of `script`, and `complied` once it is done.

    A step is a status, a pair of status and headers, a body, or a function that gets the handler and writes itself.
    """

    def __init__(self):
        self.script, self.asked, self.headers, self.times = [], [], [], []
        self.at_once, self.most_at_once = 0, 0
        self.pause = 0.0
        self.lock = threading.Lock()

    def answer(self, handler):
        with self.lock:
            self.times.append(time.monotonic())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            step = self.script.pop(0) if self.script else said("complied")
            self.asked.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
            self.headers.append(dict(handler.headers))
        time.sleep(self.pause)
        with self.lock:
            self.at_once -= 1
        if callable(step):
            return step(handler)
        status, headers = (step, {}) if isinstance(step, int) else step if isinstance(step, tuple) else (200, {})
        body = (step if isinstance(step, str) else "").encode()
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    @property
    def questions(self):
        return [body["messages"][0]["content"] for body in self.asked]


@contextmanager
def running():
    """The endpoint, with its address under `url`."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            endpoint.path = self.path
            endpoint.answer(self)

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args):
            """A client that has left is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
