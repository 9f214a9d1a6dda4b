"""A headless Firefox, driven by WebDriver BiDi, which it speaks itself: Playwright would need a Firefox of its own."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import websocket

BINARY = shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """One page, 1,280 pixels wide. `run` evaluates JavaScript in it; `drag` and `press` send what a user would."""

    def __init__(self, folder: Path):
        log = folder / "log.txt"
        command = [BINARY, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0"]
        with log.open("w") as file:
            size = ["--width", "1280", "--height", "1000"]
            self.process = subprocess.Popen([*command, *size], stdout=file, stderr=subprocess.STDOUT)
        end, said = time.time() + 60, []
        while not said and time.time() < end and self.process.poll() is None:
            time.sleep(0.2)
            said = [line.split()[-1] for line in log.read_text().splitlines() if "WebDriver BiDi listening on" in line]
        if not said:
            self.process.kill()
            raise RuntimeError(f"Firefox did not start: {log.read_text()[-1000:]}")
        self.socket = websocket.create_connection(f"{said[0]}/session", timeout=120, suppress_origin=True)
        self.asked = 0
        self.ask("session.new", capabilities={})
        self.context = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method: str, **params) -> dict:
        self.asked += 1
        self.socket.send(json.dumps({"id": self.asked, "method": method, "params": params}))
        answer = {}
        while answer.get("id") != self.asked:
            answer = json.loads(self.socket.recv())
        if answer["type"] == "error":
            raise RuntimeError(f"{method}: {answer['message']}")
        return answer["result"]

    def open(self, address: str) -> None:
        self.ask("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def run(self, expression: str):
        """Return the value of a JavaScript expression, or what its promise becomes, by way of JSON."""
        expression = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        target = {"context": self.context}
        found = self.ask("script.evaluate", expression=expression, target=target, awaitPromise=True)
        if found["type"] != "success":
            raise RuntimeError(found["exceptionDetails"]["text"])
        return json.loads(found["result"]["value"])

    def drag(self, begin: tuple[float, float], end: tuple[float, float], moves: int = 8) -> None:
        steps = [tuple(a + (b - a) * i / moves for a, b in zip(begin, end)) for i in range(moves + 1)]
        moved = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 20} for x, y in steps]
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        self.perform("pointer", [moved[0], down, *moved[1:], up])

    def press(self, key: str) -> None:
        self.perform("key", [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")])

    def perform(self, device: str, actions: list[dict]) -> None:
        source = {"type": device, "id": device, "actions": actions}
        self.ask("input.performActions", context=self.context, actions=[source])

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)
