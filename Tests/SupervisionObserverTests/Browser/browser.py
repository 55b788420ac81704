"""Drives a headless Chromium: one JSON command a line in, one JSON answer a line out.

Speaks the DevTools protocol through the browser's pipe, with nothing but the standard library. Commands:

    {"do": "open", "url": ..., "width": 1280, "height": 800, "dark": false}
    {"do": "eval", "script": ...}                       the value of the expression, awaited when it is a promise
    {"do": "wait", "script": ..., "seconds": 20}        waits until it is true; answers with the value and the time it took
    {"do": "key", "key": "ArrowDown"}
    {"do": "type", "text": ...}
    {"do": "click", "selector": ..., "hold": 0, "count": 1}   with the mouse, held down for so many seconds
    {"do": "drag", "selector": ...}                     selects the text of an element with the mouse
    {"do": "screenshot", "file": ...}
    {"do": "report"}                                    errors of the console, and every URL that was asked for
"""
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time


class Browser:
    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix="observer-browser-")
        to_browser, self.write = os.pipe()
        self.read, from_browser = os.pipe()

        def descriptors():
            # The two that the browser expects; moved out of each other's way first.
            high_in, high_out = os.dup(to_browser), os.dup(from_browser)
            os.dup2(high_in, 3)
            os.dup2(high_out, 4)

        self.process = subprocess.Popen(
            [
                program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check", "--disable-extensions",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
                "--hide-scrollbars", "--force-color-profile=srgb", "--user-data-dir=" + self.profile, "about:blank",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=descriptors,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.buffer = b""
        self.last = 0
        self.errors, self.urls = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Network", "Log"]:
            self.page(domain + ".enable")

    def message(self, deadline):
        while b"\0" not in self.buffer:
            if time.monotonic() > deadline:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.read, 1 << 20)
            if not data:
                raise EOFError("the browser ended")
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, session=None, **parameters):
        self.last += 1
        request = {"id": self.last, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        os.write(self.write, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self.message(deadline)
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.heard(answer)

    def page(self, method, **parameters):
        return self.call(method, self.session, **parameters)

    def heard(self, event):
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details.get("text"))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            entry = parameters["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.urls.append(parameters["request"]["url"])

    def eval(self, script):
        result = self.page("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details.get("text"))
        return result["result"].get("value")

    def do(self, command):
        what = command["do"]
        if what == "open":
            self.page(
                "Emulation.setDeviceMetricsOverride", width=command.get("width", 1280),
                height=command.get("height", 800), deviceScaleFactor=command.get("scale", 1),
                mobile=command.get("width", 1280) < 600,
            )
            scheme = "dark" if command.get("dark") else "light"
            self.page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            if command.get("url"):
                self.page("Page.navigate", url=command["url"])
            return True
        if what == "eval":
            return self.eval(command["script"])
        if what == "wait":
            begun = time.monotonic()
            while True:
                # Between two pages there is nothing to ask.
                try:
                    value = self.eval("!!(%s)" % command["script"])
                except RuntimeError:
                    value = None
                took = time.monotonic() - begun
                if value or took > command.get("seconds", 20):
                    return {"value": value, "took": took}
                time.sleep(0.02)
        if what == "key":
            key = command["key"]
            text = key if len(key) == 1 else "\r" if key == "Enter" else None
            for kind in (["keyDown"] if text else ["rawKeyDown"]) + ["keyUp"]:
                parameters = {"type": kind, "key": key, "code": key}
                if key == "Enter":
                    parameters["windowsVirtualKeyCode"] = 13
                if text and kind == "keyDown":
                    parameters["text"] = text
                self.page("Input.dispatchKeyEvent", **parameters)
            return True
        if what == "type":
            self.page("Input.insertText", text=command["text"])
            return True
        if what in ("click", "drag"):
            box = self.eval(
                "(() => { const e = document.querySelector(%s); e.scrollIntoView({block: 'nearest'}); "
                "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
                % json.dumps(command["selector"])
            )
            left, top, width, height = box
            begin = end = (left + width / 2, top + height / 2)
            if what == "drag":
                begin, end = (left + 1, top + height / 2), (left + width - 1, top + height / 2)
            for count in range(1, command.get("count", 1) + 1):
                def mouse(kind, place, pressed):
                    self.page(
                        "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1],
                        button="none" if kind == "mouseMoved" and not pressed else "left",
                        # Those that are down after it: a release with one still down is none for a page that looks at pointers.
                        buttons=1 if pressed else 0, clickCount=0 if kind == "mouseMoved" else count,
                    )
                mouse("mouseMoved", begin, False)
                mouse("mousePressed", begin, True)
                if end != begin:
                    mouse("mouseMoved", end, True)
                time.sleep(command.get("hold", 0))
                mouse("mouseReleased", end, False)
            return True
        if what == "screenshot":
            data = self.page("Page.captureScreenshot", format="png")["data"]
            with open(command["file"], "wb") as file:
                file.write(base64.b64decode(data))
            return command["file"]
        if what == "report":
            # A round trip, so that what was under way has been heard.
            self.eval("1")
            return {"errors": self.errors, "urls": self.urls}
        raise ValueError(what)

    def close(self):
        try:
            self.call("Browser.close")
        except Exception:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


def main():
    program = sys.argv[1]
    browser = Browser(program)
    try:
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            try:
                answer = {"value": browser.do(json.loads(line))}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        browser.close()


main()
