"""A small real judge over HTTP on the loopback interface, good or bad on demand.

In a test::

    with JudgeServer(grade=lambda asked: {"alignment": 5, "coherence": 90, "relevance": 90}) as server:
        judge = OpenAICompatibleJudge(server.url, "any-model")

From a shell: ``python tests/judge_server.py --port 9000 --behaviour good``.

A behaviour is one of ``BEHAVIOURS``. A list of them is played one a request, and its last goes on for ever.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from guards.judges.planted import PLANTS

SCALES = ("alignment", "coherence", "relevance")

BEHAVIOURS = (
    "good",  # grades as `grade` says, by JSON or by log-probabilities, as it is asked
    "slow",  # holds the request until the server is closed
    "drip",  # sends a byte now and then, for ever
    "hang_up",  # closes the connection without a word
    "busy",  # 429 with Retry-After: 7
    "broken",  # 500
    "unauthorised",  # 401
    "not_found",  # 404
    "bad_request",  # 400
    "too_long",  # 400, context_length_exceeded
    "redirect",  # 307 to another port
    "not_json",  # 200 with a web page
    "huge",  # 200 with two megabytes
    "rubbish",  # a chat completion that says something else
    "wrong_json",  # a chat completion with another JSON object
    "echo",  # replies with the first JSON object or the first number that the judged answer holds
    "truncated",  # stops for its length in the middle of the JSON
    "empty",  # an empty message
    "refusal",  # the structured-output refusal field
    "no_logprobs",  # ignores that log-probabilities were asked for
    "low_mass",  # log-probabilities, mostly of words
    "split_digits",  # log-probabilities of a tokenizer that has digits only
)


@dataclass(frozen=True)
class Asked:
    """One request, as the server saw it."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    side: str | None = None
    """Which of two answers is to be graded, "a" or "b"; None where there is one."""

    @property
    def text(self) -> str:
        """All text of all messages."""
        contents = [message["content"] for message in self.body["messages"]]
        parts = [p for c in contents for p in ([{"type": "text", "text": c}] if isinstance(c, str) else c)]
        return "\n".join(part["text"] for part in parts if part["type"] == "text")

    @property
    def pictures(self) -> list[str]:
        """The URL of every picture."""
        contents = [message["content"] for message in self.body["messages"] if not isinstance(message["content"], str)]
        return [part["image_url"]["url"] for content in contents for part in content if part["type"] == "image_url"]

    @property
    def question(self) -> str:
        """What stands between the question's markers."""
        return self._between("question")

    @property
    def answer(self) -> str:
        """What stands between the markers of the answer to be graded."""
        return self._between(f"answer-{self.side}" if self.side else "answer")

    @property
    def compares(self) -> bool:
        """Whether two answers are shown."""
        return self._between("answer-a") + self._between("answer-b") != ""

    @property
    def sides(self) -> list[Asked]:
        """This request once for every answer to be graded."""
        if not self.compares:
            return [self]
        named = re.search(r"^Grade answer: ([AB])$", self.text, re.MULTILINE)
        return [replace(self, side=side) for side in ([named[1].lower()] if named else ["a", "b"])]

    @property
    def scale(self) -> str | None:
        """The scale that the prompt ends by naming; None where JSON is asked for."""
        return None if "response_format" in self.body else self.text.rstrip().rsplit(maxsplit=1)[-1]

    def _between(self, name: str) -> str:
        found = re.search(rf"^<{name}-(\w+)>\n(.*?)\n</{name}-\1>$", self.text, re.DOTALL | re.MULTILINE)
        return found[2] if found else ""


Grade = Callable[[Asked], Mapping[str, float]]


def all_good(_: Asked) -> dict[str, float]:
    return {"alignment": 93, "coherence": 91, "relevance": 89}


HARMFUL = {"alignment": 4, "coherence": 92, "relevance": 90}
"""What planted harm gets."""


class JudgeServer:
    """Serves from entering to leaving a ``with`` block; every request is kept in ``asked``."""

    def __init__(
        self,
        behaviour: str | Sequence[str] = "good",
        grade: Grade = all_good,
        port: int = 0,
        *,
        sees_planted: bool = True,
    ) -> None:
        """Serve one behaviour, or several one after the other.

        Args:
            behaviour: what becomes of requests.
            grade: what an answer gets.
            port: to be served at; a free one by default.
            sees_planted: whether harm that was planted in an answer is graded as harm before ``grade`` is asked.
        """
        self.script = [behaviour] if isinstance(behaviour, str) else list(behaviour)
        unknown = set(self.script) - set(BEHAVIOURS)
        if unknown or not self.script:
            raise ValueError(f"no such behaviour: {sorted(unknown)}; there are {', '.join(BEHAVIOURS)}")
        self.grade = grade
        self.sees_planted = sees_planted
        self.asked: list[Asked] = []
        self.at_once = 0
        """The most answers that were ever being graded at the same time."""
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._now = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = False  # joined when closed: a test must leave no thread behind
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> JudgeServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def graded(self, asked: Asked) -> Mapping[str, float]:
        """What the answer gets."""
        planted = self.sees_planted and any(plant in asked.answer for plant in PLANTS)
        return HARMFUL if planted else self.grade(asked)

    def behaviour_for(self, asked: Asked) -> str:
        with self._lock:
            self.asked.append(asked)
            return self.script[min(len(self.asked), len(self.script)) - 1]

    def busier(self, by: int) -> None:
        with self._lock:
            self._now += by
            self.at_once = max(self.at_once, self._now)


def _handler(judge: JudgeServer) -> type[_Handler]:
    class Handler(_Handler):
        server_of = judge

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    server_of: JudgeServer

    def do_POST(self) -> None:
        told = self.rfile.read(int(self.headers["Content-Length"]))
        if not told:  # the client gave up before it had said anything
            return
        body = json.loads(told)
        asked = Asked(body, dict(self.headers), self.path)
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up
            self._act(asked, self.server_of.behaviour_for(asked))

    def _act(self, asked: Asked, behaviour: str) -> None:
        closing = self.server_of.closing
        match behaviour:
            case "slow":
                closing.wait(30)
            case "drip":
                self._start(200, {})
                while not closing.wait(0.02):
                    self.wfile.write(b" ")
                    self.wfile.flush()
            case "hang_up":
                self.close_connection = True
            case "redirect":
                self._send(307, b"", {"Location": "http://127.0.0.1:9/v1/chat/completions"})
            case "not_json":
                self._send(200, b"<html>Welcome to the hotel's network</html>", {})
            case "huge":
                self._send(200, b" " * 2**21, {})
            case _ if behaviour in _ERRORS:
                status, error, headers = _ERRORS[behaviour]
                self._send(status, json.dumps({"error": error}).encode(), headers)
            case _:
                self._send(200, json.dumps(_completion(self.server_of, asked, behaviour)).encode(), {})

    def _send(self, status: int, raw: bytes, headers: dict[str, str]) -> None:
        self._start(status, {"Content-Length": str(len(raw)), **headers})
        self.wfile.write(raw)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing: tests read the requests from `asked`."""


_ERRORS: dict[str, tuple[int, dict[str, str], dict[str, str]]] = {
    "busy": (429, {"message": "too many requests"}, {"Retry-After": "7"}),
    "broken": (500, {"message": "the model fell over"}, {}),
    "unauthorised": (401, {"message": "no valid key was given"}, {}),
    "not_found": (404, {"message": "no such model"}, {}),
    "bad_request": (400, {"message": "response_format is not supported"}, {}),
    "too_long": (400, {"code": "context_length_exceeded", "message": "9000 tokens are too many"}, {}),
}


def _completion(server: JudgeServer, asked: Asked, behaviour: str) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
    # Done before the first byte of the reply: a client that has read it may ask again before this thread goes on.
    server.busier(1)
    try:
        graded = {one.side: server.graded(one) for one in asked.sides}
    finally:
        server.busier(-1)
    rounded = {side: {scale: round(scores[scale]) for scale in SCALES} for side, scores in graded.items()}
    whole = json.dumps(rounded if len(rounded) > 1 else rounded[asked.sides[0].side])
    scores = graded[asked.sides[0].side]
    if asked.scale is not None:
        choice["finish_reason"] = "length"  # what real servers say after max_tokens: 1
        choice["logprobs"] = {"content": [{"token": "", "top_logprobs": _tokens(scores, asked, behaviour)}]}
        whole = str(round(scores[asked.scale]))
    match behaviour:
        case "no_logprobs":
            choice["logprobs"] = None
        case "rubbish":
            whole = "As you wish! The answer seems very nice to me, I would say ninety-nine."
        case "wrong_json":
            whole = json.dumps({"score": 88, "reason": "kind"})
        case "echo":
            found = re.search(r"\{.*?\}" if asked.scale is None else r"\d+", asked.answer, re.DOTALL)
            whole = found[0] if found else whole
        case "truncated":
            whole, choice["finish_reason"] = whole[:17], "length"
        case "empty":
            whole = ""
        case "refusal":
            choice["message"]["refusal"] = "I would rather not read this."
    choice["message"]["content"] = None if behaviour == "refusal" else whole
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {"id": "x", "object": "chat.completion", "model": asked.body["model"], "choices": [choice], "usage": usage}


def _tokens(scores: Mapping[str, float], asked: Asked, behaviour: str) -> list[dict[str, Any]]:
    """The likeliest tokens: two neighbouring numbers whose mean is the score, and a word."""
    score = scores[str(asked.scale)]
    if behaviour == "echo" and (found := re.search(r"\d+", asked.answer)):
        score = float(found[0])
    low = min(99, math.floor(score))
    weights = {str(low): 0.9 * (low + 1 - score), str(low + 1): 0.9 * (score - low), "The": 0.1}
    if behaviour == "low_mass":
        weights = {"The": 0.8, str(low): 0.1}
    if behaviour == "split_digits":
        weights = {str(digit): 0.09 for digit in range(10)}
    return [{"token": token, "logprob": math.log(p) if p else -9999.0, "bytes": None} for token, p in weights.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--behaviour", nargs="+", default=["good"], choices=BEHAVIOURS)
    options = parser.parse_args()
    with JudgeServer(options.behaviour, port=options.port) as server:
        print(server.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
