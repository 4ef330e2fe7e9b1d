"""A server of S3 for tests: moto's, from PyPI, with an environment of its own (tests/s3.lock).

    var/s3-server/bin/python tests/helpers/s3_server.py PORT ACCESS_KEY [KIND]

moto looks whether a key is there and writes it in two steps, so requests are taken one at a time: then its
conditional put is one step, as that of S3 is. It checks no signatures; that the access key comes along is
checked here. Its objects are gone with the process. `--takes-both` is a store that does not know
If-None-Match, `--looks-first` one that knows it and is not atomic, and `--loses-answers` one that writes each
commit and says 500 to it. Each put is told with its condition, as `put PATH CONDITION`.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

Answer = Callable[..., Any]
Application = Callable[[dict[str, Any], Answer], Iterable[bytes]]

_CONDITION = "HTTP_IF_NONE_MATCH"
_LOOKING = 0.3  # seconds between looking and writing: as long as several writers need to look


def one_at_a_time(application: Application) -> Application:
    lock = threading.Lock()

    def serve(environ: dict[str, Any], answer: Answer) -> Iterable[bytes]:
        with lock:
            return [b"".join(application(environ, answer))]

    return serve


def for_key(application: Application, key: str) -> Application:
    """Only requests that are signed in the name of this access key."""

    def serve(environ: dict[str, Any], answer: Answer) -> Iterable[bytes]:
        if f"Credential={key}/" in environ.get("HTTP_AUTHORIZATION", ""):
            return application(environ, answer)
        answer("403 Forbidden", [("Content-Type", "application/xml")])
        return [b"<Error><Code>InvalidAccessKeyId</Code><Message>unknown access key</Message></Error>"]

    return serve


def takes_both(application: Application) -> Application:
    def serve(environ: dict[str, Any], answer: Answer) -> Iterable[bytes]:
        return application({name: value for name, value in environ.items() if name != _CONDITION}, answer)

    return serve


def looks_first(application: Application) -> Application:
    """The condition is looked at when the request comes, and the object written later."""

    def serve(environ: dict[str, Any], answer: Answer) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "PUT" or _CONDITION not in environ:
            return application(environ, answer)
        plain = {name: value for name, value in environ.items() if name != _CONDITION}
        if _is_there(application, plain):
            answer("412 Precondition Failed", [("Content-Type", "application/xml")])
            return [b"<Error><Code>PreconditionFailed</Code></Error>"]
        time.sleep(_LOOKING)
        return application(plain, answer)

    return serve


def loses_answers(application: Application) -> Application:
    """What is put under a condition into a log is there, and who has put it is told that it failed."""

    def serve(environ: dict[str, Any], answer: Answer) -> Iterable[bytes]:
        if _CONDITION not in environ or not environ["PATH_INFO"].endswith("1.json"):
            return application(environ, answer)
        told: list[str] = []
        body = application(environ, lambda status, headers, *_: told.extend([status, str(headers)]))
        if not told[0].startswith("200"):
            answer(told[0], [("Content-Type", "application/xml")])
            return body
        answer("500 Internal Server Error", [("Content-Type", "application/xml")])
        return [b"<Error><Code>InternalError</Code></Error>"]

    return serve


def tells_puts(application: Application) -> Application:
    def serve(environ: dict[str, Any], answer: Answer) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            # One write: what other threads log must not come in between.
            print(f"put {environ['PATH_INFO']} {environ.get(_CONDITION, '-')}\n", end="", flush=True)
        return application(environ, answer)

    return serve


def _is_there(application: Application, environ: dict[str, Any]) -> bool:
    told: list[str] = []
    look = {**environ, "REQUEST_METHOD": "HEAD", "CONTENT_LENGTH": "0", "wsgi.input": io.BytesIO()}
    application(look, lambda status, *_: told.append(status))
    return told[0].startswith("200")


def main(port: int, key: str, kind: str) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    application = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    if kind:
        kinds = {"--takes-both": takes_both, "--looks-first": looks_first, "--loses-answers": loses_answers}
        application = kinds[kind](application)
    run_simple("127.0.0.1", port, tells_puts(for_key(application, key)), threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
