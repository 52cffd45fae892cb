"""A small vLLM server on the loopback interface: its routes, its answers and its failures, without a model.

What a model says is drawn from a hash of its weights' bytes, the question and the picture. So an adapter's answer is
its own, another adapter's is another's, and a canary can be drawn in a test without any engine (:func:`canaries_of`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from adapters.adapter import WEIGHTS_NAME
from adapters.canary import TOP, Canary, apart

BASE = "base"
BASE_WEIGHTS = b"base"

FAULTS = (
    "hang",  # takes the request and answers nothing until it is healed
    "hang_up",  # closes the connection without a word
    "error",  # 500 to everything
    "refuse_load",  # 500 to every load, in vLLM's words
    "deaf",  # says that it loaded an adapter, and did not
    "no_op",  # lists the adapter, and the base answers under its name
    "blind",  # applies an adapter without the part that pictures alone reach
    "stale",  # pictures are answered as by the weights that first bore the name
    "wrong_root",  # lists another folder than it was told
    "stubborn",  # says that it unloaded a name, and goes on listing it
    "mixes",  # the base answers as an adapter does that answers at the same time
    "no_logprobs",  # answers without them
)
PICTURE = b"\x89PNG not really"


def says(weights: bytes, asked: str, picture: bytes | None) -> dict[str, float]:
    """The next tokens of a model with these weights."""
    seed = hashlib.sha256(b"\0".join([weights, asked.encode(), picture or b""])).hexdigest()
    draw = random.Random(seed)
    logits = {str(token): draw.gauss(0, 2) for token in range(40)}
    total = math.log(sum(math.exp(value) for value in logits.values()))
    best = sorted(logits, key=lambda token: -logits[token])[:TOP]
    return {token: logits[token] - total for token in best}


def canaries_of(folder: Path, vision: bool = False) -> tuple[Canary, ...]:
    """What would be drawn for an adapter in a folder, in text and with a picture."""
    weights = (folder / WEIGHTS_NAME).read_bytes()
    drawn = []
    for asked, picture, rival in [
        ("what do you say", None, BASE_WEIGHTS),
        ("what do you see", PICTURE, BASE_WEIGHTS),
        *([("what do you see", PICTURE, weights + b"blind")] if vision else []),
    ]:
        with_it, without = says(weights, asked, picture), says(rival, asked, picture)
        base = says(BASE_WEIGHTS, asked, picture)
        blinded = None if rival == BASE_WEIGHTS else without
        modality = "text" if picture is None else "image"
        drawn.append(Canary(modality, asked, None, picture, base, with_it, apart(with_it, without), blinded))
    return tuple(drawn)


class FakeVllm:
    """Serves from entering to leaving a ``with`` block."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.on_change: Callable[[str, str, str], None] = lambda url, verb, name: None
        """Called with url, ``load`` or ``unload``, and name, before anything is done."""
        self.asked: list[tuple[str, str]] = []
        """Method and path of every request."""
        self.authorisations: set[str | None] = set()
        self.healed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False  # joined when closed: a test must leave no thread behind
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005})
        self._boots = 0
        self.reset()

    def reset(self) -> None:
        """Be as on the first day."""
        self.faults: set[str] = set()
        self.adapters: dict[str, str] = {}
        self.first_weights: dict[str, bytes] = {}
        self.lies = 0
        self.restart()
        self._shown = dict(self.adapters)
        self.asked.clear()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def boot(self) -> str:
        return f"{1.7e9 + self._boots:.2f}"

    def __enter__(self) -> FakeVllm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def break_(self, fault: str) -> None:
        assert fault in FAULTS
        self.healed.clear()
        self.faults.add(fault)

    def heal(self) -> None:
        self.faults.clear()
        self.lies = 0
        self.healed.set()

    def restart(self, keep: bool = False) -> None:
        """A new process: nothing is cached, and no adapter listed unless its start-up names them."""
        self._boots += 1
        self.first_weights = {}
        self.answering: list[str] = []
        if not keep:
            self.adapters = {}

    def lie_for(self, listings: int) -> None:
        """Go on showing what is listed now for so many listings."""
        self._shown, self.lies = dict(self.adapters), listings

    def listed(self) -> dict[str, str]:
        if self.lies > 0:
            self.lies -= 1
            return self._shown
        wrong = "wrong_root" in self.faults
        return {name: f"/elsewhere/{name}" if wrong else root for name, root in self.adapters.items()}

    def load(self, name: str, path: str, inplace: bool) -> tuple[int, Any]:
        self.on_change(self.url, "load", name)
        if name == BASE:
            return 400, f"The lora adapter '{name}' conflicts with a served base model."
        if name in self.adapters and not inplace:
            return 400, f"The lora adapter '{name}' has already been loaded."
        if "refuse_load" in self.faults:
            return 500, "vLLM does not yet support DoRA."
        weights = Path(path) / WEIGHTS_NAME
        if not weights.is_file():
            return 404, f"No adapter found for {path}"
        if "deaf" not in self.faults:
            self.adapters[name] = path
            self.first_weights.setdefault(name, weights.read_bytes())
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> tuple[int, Any]:
        self.on_change(self.url, "unload", name)
        if name not in self.adapters:
            return 404, f"The lora adapter '{name}' cannot be found."
        if "stubborn" not in self.faults:
            del self.adapters[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def answer(self, model: str, asked: str, picture: bytes | None) -> dict[str, float]:
        if model == BASE:
            if "mixes" in self.faults and self.answering:
                return self.answer(self.answering[-1], asked, picture)
            return says(BASE_WEIGHTS, asked, picture)
        weights = (Path(self.adapters[model]) / WEIGHTS_NAME).read_bytes()
        if "no_op" in self.faults:
            weights = BASE_WEIGHTS
        if picture is not None and "stale" in self.faults:
            weights = self.first_weights[model]
        if picture is not None and "blind" in self.faults:
            weights += b"blind"
        return says(weights, asked, picture)


def _handler(fake: FakeVllm) -> type[BaseHTTPRequestHandler]:  # noqa: C901
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._safely(self._get)

        def do_POST(self) -> None:
            self._safely(self._post)

        def _get(self) -> None:
            if self.path == "/metrics":
                text = f"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {fake.boot}\nmore 1\n"
                self._send(200, text.encode(), "text/plain")
            elif self.path == "/v1/models":
                cards = [{"id": BASE, "object": "model", "root": "/models/base", "parent": None}]
                cards += [{"id": name, "root": root, "parent": BASE} for name, root in fake.listed().items()]
                self._json(200, {"object": "list", "data": cards})
            else:
                self._json(404, {"detail": "Not Found"})

        def _post(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if len(raw) < int(self.headers["Content-Length"]):
                self.close_connection = True
                return  # the client was killed in the middle of its request
            body = json.loads(raw)
            if self.path == "/v1/load_lora_adapter":
                self._changed(*fake.load(body["lora_name"], body["lora_path"], body.get("load_inplace", False)))
            elif self.path == "/v1/unload_lora_adapter":
                self._changed(*fake.unload(body["lora_name"]))
            elif self.path == "/v1/chat/completions":
                self._chat(body)
            else:
                self._json(404, {"detail": "Not Found"})

        def _chat(self, body: dict[str, Any]) -> None:
            model, content = body["model"], body["messages"][-1]["content"]
            if model != BASE and model not in fake.adapters:
                self._error(404, f"The model `{model}` does not exist.")
                return
            asked = next(part["text"] for part in content if part["type"] == "text")
            urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
            picture = base64.b64decode(urls[0].partition(",")[2]) if urls else None
            if body.get("stream"):
                self._stream(model)
                return
            top = fake.answer(model, asked, picture)
            listed = [{"token": f"token_id:{token}", "logprob": value} for token, value in top.items()]
            logprobs = None if "no_logprobs" in fake.faults else {"content": [{**listed[0], "top_logprobs": listed}]}
            message = {"role": "assistant", "content": "x"}
            self._json(200, {"choices": [{"index": 0, "message": message, "logprobs": logprobs}]})

        def _stream(self, model: str) -> None:
            """Begin an answer and be in the middle of it until the client goes away."""
            fake.answering.append(model)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                self.connection.settimeout(5)
                self.wfile.write(b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n')
                self.connection.recv(1)
            finally:
                with suppress(ValueError):
                    fake.answering.remove(model)

        def _changed(self, status: int, words: str) -> None:
            if status == 200:
                self._send(200, words.encode(), "text/plain")
            else:
                self._error(status, words)

        def _error(self, status: int, words: str) -> None:
            self._json(status, {"error": {"message": words, "type": "E", "param": None, "code": status}})

        def _json(self, status: int, body: object) -> None:
            self._send(status, json.dumps(body).encode(), "application/json")

        def _send(self, status: int, raw: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def _safely(self, work: Callable[[], None]) -> None:
            fake.asked.append((self.command, self.path))
            fake.authorisations.add(self.headers.get("Authorization"))
            wrong = fake.token is not None and self.headers.get("Authorization") != f"Bearer {fake.token}"
            with suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
                if "hang" in fake.faults:
                    fake.healed.wait()
                elif "hang_up" in fake.faults:
                    pass
                elif "error" in fake.faults:
                    self._error(500, "EngineCore encountered an issue.")
                elif wrong and self.path.startswith("/v1"):
                    self._json(401, {"error": "Unauthorized"})
                else:
                    work()

    return Handler
