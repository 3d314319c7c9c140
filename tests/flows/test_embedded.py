"""The server that a command starts for itself."""

import http.server
import subprocess
import threading

from flows import embedded


def test_a_server_that_has_no_time_to_answer_is_asked_again(monkeypatch):
    """As on a machine that does much else: it listens, and says nothing for longer than one look takes."""
    looks, silent = [], threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            looks.append(self.path)
            if len(looks) == 1:
                silent.wait(30)
            self.send_response(200)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
    monkeypatch.setattr(embedded, "PROBE", 0.2)
    process = subprocess.Popen(["sleep", "60"])
    try:
        embedded.await_server(process)
    finally:
        silent.set()
        process.kill()
        server.shutdown()
    assert looks == ["/api/health"] * 2
