"""What an observer costs: a process that has one, and a viewer that looks as the page does."""

import json
import subprocess
import threading
import time
import urllib.parse
import http.client

import programs


class Viewer:
    """Does what the page does with its tree open: follows the stream, and asks for the rows on screen each second."""

    def __init__(self, url):
        self.address = urllib.parse.urlparse(url).netloc
        self.stream = http.client.HTTPConnection(self.address, timeout=30)
        self.is_over = False
        self.messages = 0
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        self.stream.request("GET", "/api/stream")
        answer = self.stream.getresponse()
        asking = http.client.HTTPConnection(self.address, timeout=30)
        body = json.dumps({"tree": 0, "offset": 0, "limit": 100, "toggled": ["app/sessions"]})
        try:
            while not self.is_over:
                if answer.fp.readline().startswith(b"event: overview"):
                    self.messages += 1
                    asking.request("POST", "/api/tree", body, {"Content-Type": "application/json"})
                    asking.getresponse().read()
        except (OSError, ValueError, AttributeError):
            # The stream was closed by whoever ends this.
            pass

    def close(self):
        self.is_over = True
        self.thread.join(10)
        self.stream.close()


def measure(seconds, children=10_000, rate=5000):
    """CPU time of a process under calls, as parts of a core: without an observer, with one, with a viewer."""
    found = {"children": children, "rate": rate}
    for name in ["none", "quiet", "viewed"]:
        arguments = [programs.OBSERVER, "--children", str(children), "--rate", str(rate)]
        if name == "none":
            arguments.append("--none")
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            ready = process.stdout.readline().split()
            if ready[:1] != ["ready"]:
                raise programs.Failure("observer-bench did not start")
            viewer = Viewer(ready[1]) if name == "viewed" else None
            time.sleep(2)
            before, start = ask(process), time.monotonic()
            time.sleep(seconds)
            after, took = ask(process), time.monotonic() - start
            found[name] = (after["cpu_us"] - before["cpu_us"]) / 1e6 / took
            found[name + "_calls"] = (after["calls"] - before["calls"]) / took
            if viewer:
                if viewer.messages < 2:
                    raise programs.Failure("the viewer saw nothing")
                viewer.close()
        finally:
            process.stdin.close()
            process.wait(60)
    found["viewer"] = found["viewed"] - found["quiet"]
    return found


def ask(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())
