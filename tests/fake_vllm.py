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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    "crowded",  # answers somebody else's request beside each of ours
    "uncounted",  # its metrics do not say how much it answers
    "forgetful",  # restarts before the next question is answered, and then no more
    "too_long",  # 400 to every question that is no canary's
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
        self.bodies: list[dict[str, Any]] = []
        """Every question."""
        self.company: set[frozenset[str]] = set()
        """Models that answered at the same time."""
        self.finished = 0
        self.before_answer: Callable[[str], None] = lambda model: None
        """Called with the model's name before a question is answered."""
        self._running: list[str] = []
        self._lock = threading.Lock()
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
        self.bodies.clear()
        self.company.clear()
        self.before_answer = lambda model: None

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
        self.finished = 0
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

    @contextmanager
    def counted(self, model: str) -> Iterator[None]:
        with self._lock:
            self._running.append(model)
            self.company.add(frozenset(self._running))
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(model)
                self.finished += 2 if "crowded" in self.faults else 1

    def metrics(self) -> str:
        lines = ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {self.boot}", "more 1"]
        if "uncounted" not in self.faults:
            labels = f'engine="0",model_name="{BASE}"'
            lines += [
                f"vllm:num_requests_running{{{labels}}} {len(self.answering)}.0",
                f"vllm:num_requests_waiting{{{labels}}} 0.0",
                f'vllm:request_success_total{{{labels},finished_reason="stop"}} {self.finished}.0',
                f'vllm:request_success_total{{{labels},finished_reason="length"}} 0.0',
            ]
        return "\n".join(lines) + "\n"

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
                self._send(200, fake.metrics().encode(), "text/plain")
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
            fake.bodies.append(body)
            fake.before_answer(model)
            if "forgetful" in fake.faults:
                fake.faults.remove("forgetful")
                fake.restart()
            if model != BASE and model not in fake.adapters:
                self._error(404, f"The model `{model}` does not exist.")
                return
            if "too_long" in fake.faults and "seed" in body:
                self._error(400, "This model's maximum context length is 512 tokens.")
                return
            asked = next(part["text"] for part in content if part["type"] == "text")
            urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
            picture = base64.b64decode(urls[0].partition(",")[2]) if urls else None
            if body.get("stream"):
                self._stream(model)
                return
            with fake.counted(model):
                top = fake.answer(model, asked, picture)
            listed = [{"token": f"token_id:{token}", "logprob": value} for token, value in top.items()]
            logprobs = None if "no_logprobs" in fake.faults else {"content": [{**listed[0], "top_logprobs": listed}]}
            message = {"role": "assistant", "content": f" says {next(iter(top))}"}
            choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
            self._json(200, {"choices": [choice]})

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
