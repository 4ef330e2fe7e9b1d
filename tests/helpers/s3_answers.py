"""A store of S3 in the tests' own process, as far as obstore asks, which can refuse any request of it.

What deltalake does while it holds the interpreter cannot be answered from here: that is `s3_service`'s.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from headgate.tables.access import S3Access
from headgate.tables.place import S3Folder

__all__ = ["Answers", "Store", "s3_answers"]

_LONG_AGO = "Wed, 01 Jan 2025 00:00:00 GMT"


class Answers:
    """What lies in the store and was asked of it. `refuses`: by method and key, the status instead of an
    answer; of a delete of several keys it is told within the answer, as AWS does it. `loses`: whether a
    request is carried out and answered with 500. `hides`: lists are those of an empty store. `says`: the body
    of a refusal."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.keys: list[str] = []  # whose each request was
        self.refuses: Callable[[str, str], int | None] = lambda *_: None
        self.loses: Callable[[str, str], bool] = lambda *_: False
        self.hides = False
        self.says = b""
        self.uploads: dict[str, dict[int, bytes]] = {}  # by key, as far as they are not completed
        self.lock = threading.Lock()

    def answer(self, method: str, url: str, body: bytes, condition: str | None) -> tuple[int, bytes]:
        parts = urlsplit(url)
        key = unquote(parts.path).removeprefix("/lake").lstrip("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        self.asked.append((method, key))
        if method == "POST" and "delete" in query:
            return 200, self._deleted(re.findall(r"<Key>(.*?)</Key>", body.decode()))
        if status := self.refuses(method, key):
            return status, self.says
        if "uploads" in query or "uploadId" in query:
            return self._upload(method, key, query, body)
        if method == "GET" and "list-type" in query:
            return 200, self._list(query.get("prefix", [""])[0])
        if method == "PUT":
            return self._put(key, body, condition), b""
        found = self.objects.get(key)
        return (404, b"") if found is None else (200, found)

    def _put(self, key: str, body: bytes, condition: str | None) -> int:
        if condition == "*" and key in self.objects:
            return 412
        self.objects[key] = body
        return 500 if self.loses("PUT", key) else 200

    def _deleted(self, keys: list[str]) -> bytes:
        told = []
        for key in keys:
            if self.refuses("DELETE", key):
                told.append(f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>no</Message></Error>")
            else:
                self.objects.pop(key, None)
                told.append(f"<Deleted><Key>{key}</Key></Deleted>")
        return f"<DeleteResult>{''.join(told)}</DeleteResult>".encode()

    def _upload(self, method: str, key: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:
        if "uploads" in query:
            self.uploads[key] = {}
            return (
                200,
                b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>",
            )
        if key not in self.uploads:
            return 404, b"<Error><Code>NoSuchUpload</Code></Error>"
        if method == "PUT":
            self.uploads[key][int(query["partNumber"][0])] = body
            return 200, b""
        self.objects[key] = b"".join(part for _, part in sorted(self.uploads.pop(key).items()))
        done = b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"
        return (500, b"") if self.loses(method, key) else (200, done)

    def _list(self, prefix: str) -> bytes:
        keys = sorted(key for key in self.objects if key.startswith(prefix) and not self.hides)
        return b"<ListBucketResult>%s</ListBucketResult>" % b"".join(
            b"<Contents><Key>%s</Key><Size>%d</Size><LastModified>2025-01-01T00:00:00Z</LastModified>"
            b"</Contents>" % (key.encode(), len(self.objects[key]))
            for key in keys
        )


Store = tuple[Answers, S3Folder]


@contextmanager
def s3_answers(home: Path) -> Iterator[Store]:
    """The store, and a folder in its bucket. The credentials are LAKE_KEY and LAKE_SECRET."""
    answers = Answers()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        access = S3Access("us-east-1", home, url, "env:LAKE_KEY", "env:LAKE_SECRET")
        yield answers, S3Folder(access, "lake", "tables")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(answers: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with answers.lock:
                answers.keys += re.findall(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
                status, found = answers.answer(
                    self.command, self.path, body, self.headers.get("If-None-Match")
                )
            self.send_response(status)
            for name, value in (
                ("Content-Length", str(len(found))),
                ("ETag", '"1"'),
                ("Last-Modified", _LONG_AGO),
            ):
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            """The tests' own output is quiet."""

    return Handler
