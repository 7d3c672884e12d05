"""A stand-in for the Hugging Face Hub: a real HTTP server that speaks what `huggingface_hub` needs to upload models
(with LFS), and to download them and the files of datasets.

What it has lives in memory. `refuse` and `page` make requests fail, a `HubFile` can arrive damaged, in pieces or late;
`requests` keeps what was asked.
"""

import asyncio
import base64
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from huggingface_hub import constants, hf_api

from data.benchmarks import Benchmark

TOKEN = "hf_" + "t" * 34
NOWHERE = "http://127.0.0.1:9"  # a port on which nothing listens
Refusal = Callable[[str, str], int | None]


def use_hub(patch: pytest.MonkeyPatch, url: str, home: Path, token: str | None = None) -> None:
    """Have `huggingface_hub`, in this process, do as HF_ENDPOINT, HF_HOME and HF_TOKEN have it do in a new one.

    Args:
        patch (`pytest.MonkeyPatch`): takes it back.
        url (`str`): the Hub's address.
        home (`Path`): folder of its cache and of the token of whoever has logged in.
        token (`str`, *optional*): of this user; one who is not logged in has none.
    """
    patch.setenv("HF_ENDPOINT", url)
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(hf_api.api, "endpoint", url)
    if (loaded := sys.modules.get("transformers.utils.hub")) is not None:
        patch.setattr(loaded, "_hf_api", None, raising=False)  # one made for another address would be asked for ever
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(name, raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)


@dataclass
class HubFile:
    """A file of a dataset.

    Args:
        content (`bytes`): what the Hub says that it is.
        lfs (`bool`): kept in large file storage, so that its SHA-256 is known; else Git's digest is.
        sent (`bytes`, *optional*): what is sent instead.
        cut (`int`): so many times the connection breaks after half of the file.
        held (`threading.Event`, *optional*): the second half waits for it.
        absent (`bool`): listed, but not there.
    """

    content: bytes
    lfs: bool = True
    sent: bytes | None = None
    cut: int = 0
    held: threading.Event | None = None
    absent: bool = False

    @property
    def digest(self) -> str:
        """What the Hub names the file by."""
        return hashlib.sha256(self.content).hexdigest() if self.lfs else _git_id(self.content)


@dataclass
class Repository:
    """Files of a model's only branch."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    sha: str = "0" * 40


class FakeHub:
    """Serves on loopback from a thread of its own while used as a context manager.

    Attributes:
        repositories: the models, by `owner/name`.
        files: those of datasets, by `owner/name/revision/path`.
        requests: method, path and range of each.
        refuse: from a request's method and path to the status it fails with, or `None`.
        page: a page that answers everything, as a captive portal does.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, HubFile] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.refuse: Refusal = lambda method, path: None
        self.page: bytes | None = None
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, benchmark: Benchmark, contents: Mapping[str, bytes], *, lfs: bool = True) -> None:
        """Have these files of a benchmark at its pinned revision."""
        for path, content in contents.items():
            self.files[f"{benchmark.repo}/{benchmark.revision}/{path}"] = HubFile(content, lfs)

    def file(self, path: str) -> HubFile:
        """Return the dataset's file whose address ends so."""
        return next(file for address, file in self.files.items() if address.endswith(path))

    def fetched(self) -> list[str]:
        """Return the names of the datasets' files sent, in order, with where in the file each answer began."""
        return [
            path.split("/", 6)[-1] + (f" from {span[6:-1]}" if span else "")
            for method, path, span in self.requests
            if method == "GET" and path.startswith("/datasets/")
        ]

    def __enter__(self) -> "FakeHub":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._guard], client_max_size=2**28)
        app.router.add_get("/api/whoami-v2", self._whoami)
        app.router.add_post("/api/repos/create", self._create)
        app.router.add_post("/api/validate-yaml", self._validate)
        repo = "{owner:[^/]+}/{name:[^/]+}"
        app.router.add_post(f"/api/models/{repo}/preupload/main", self._preupload)
        app.router.add_post(f"/api/models/{repo}/commit/main", self._commit)
        app.router.add_get(f"/api/models/{repo}/revision/main", self._info)
        app.router.add_get(f"/api/models/{repo}", self._info)
        app.router.add_get(f"/api/models/{repo}/tree/{{revision}}", self._tree)
        app.router.add_post(f"/{repo}.git/info/lfs/objects/batch", self._lfs_batch)
        app.router.add_put("/lfs/{oid}", self._lfs_put)
        app.router.add_get(f"/{repo}/resolve/{{revision}}/{{path:.+}}", self._resolve)  # and HEAD
        app.router.add_post(f"/api/datasets/{repo}/paths-info/{{revision}}", self._paths_info)
        app.router.add_get(f"/datasets/{repo}/resolve/{{revision}}/{{path:.+}}", self._resolve_dataset)  # and HEAD
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[..., web.Response]) -> web.StreamResponse:
        self.requests.append((request.method, request.path, request.headers.get("Range")))
        if self.page is not None:
            return web.Response(body=self.page)
        status = self.refuse(request.method, request.path)
        writes = (request.method == "POST" and "/paths-info/" not in request.path) or request.path == "/api/whoami-v2"
        if status is None and writes and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            status = 401
        if status is not None:
            headers = {"X-Error-Message": f"no ({status}) for Bearer {TOKEN}"}
            return web.json_response({"error": "no"}, status=status, headers=headers)
        return await handler(request)  # type: ignore[misc]

    def _repository(self, request: web.Request) -> Repository:
        found = self.repositories.get(f"{request.match_info['owner']}/{request.match_info['name']}")
        if found is None:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RepoNotFound"})
        return found

    async def _whoami(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "you", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = f"{body['organization']}/{body['name']}"
        if name in self.repositories:
            return web.json_response({"error": "exists", "url": f"{self.url}/{name}"}, status=409)
        self.repositories[name] = Repository(private=body.get("visibility") == "private" or bool(body.get("private")))
        return web.json_response({"url": f"{self.url}/{name}"})

    async def _validate(self, request: web.Request) -> web.Response:
        content = (await request.json())["content"]
        try:
            assert isinstance(yaml.safe_load(content.split("---\n")[1]), dict)
        except (yaml.YAMLError, AssertionError, IndexError) as error:
            return web.json_response({"errors": [{"message": str(error)}]}, status=400)
        return web.json_response({"errors": [], "warnings": []})

    async def _preupload(self, request: web.Request) -> web.Response:
        repository = self._repository(request)
        files = []
        for file in (await request.json())["files"]:
            lfs = file["path"].endswith((".safetensors", ".png"))
            content = repository.files.get(file["path"])
            entry = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if content is not None:
                entry["oid"] = hashlib.sha256(content).hexdigest() if lfs else _git_id(content)
            files.append(entry)
        return web.json_response({"files": files})

    async def _lfs_batch(self, request: web.Request) -> web.Response:
        objects = []
        for wanted in (await request.json())["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.blobs:
                entry["actions"] = {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}"}}
            objects.append(entry)
        return web.json_response({"transfer": "basic", "objects": objects})

    async def _lfs_put(self, request: web.Request) -> web.Response:
        content = await request.read()
        assert hashlib.sha256(content).hexdigest() == request.match_info["oid"]
        self.blobs[request.match_info["oid"]] = content
        return web.Response()

    async def _commit(self, request: web.Request) -> web.Response:
        repository = self._repository(request)
        for line in (await request.text()).splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                repository.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            if item["key"] == "lfsFile":
                repository.files[item["value"]["path"]] = self.blobs[item["value"]["oid"]]
        repository.sha = hashlib.sha1((repository.sha + str(request.url)).encode()).hexdigest()
        url = f"{self.url}{request.path.split('/commit/')[0].removeprefix('/api/models')}/commit/{repository.sha}"
        return web.json_response({"success": True, "commitOid": repository.sha, "commitUrl": url, "hookOutput": ""})

    async def _info(self, request: web.Request) -> web.Response:
        repository = self._repository(request)
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        siblings = [{"rfilename": path} for path in repository.files]
        return web.json_response({"id": name, "modelId": name, "sha": repository.sha, "siblings": siblings, "tags": []})

    async def _tree(self, request: web.Request) -> web.Response:
        files = self._repository(request).files
        entries = [{"type": "file", "path": k, "size": len(v), "oid": _git_id(v)} for k, v in files.items()]
        return web.json_response(entries)

    async def _resolve(self, request: web.Request) -> web.Response:
        repository = self._repository(request)
        content = repository.files.get(request.match_info["path"])
        if content is None:
            raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repository.sha})
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return web.Response(body=content, headers={"ETag": etag, "X-Repo-Commit": repository.sha})

    async def _paths_info(self, request: web.Request) -> web.Response:
        known = []
        for path in (await request.post()).getall("paths"):
            file = self.files.get("{owner}/{name}/{revision}/".format(**request.match_info) + str(path))
            if file is not None:
                large = {"lfs": {"oid": file.digest, "size": len(file.content), "pointerSize": 130}} if file.lfs else {}
                known.append({"type": "file", "path": path, "size": len(file.content), "oid": file.digest, **large})
        return web.json_response(known)

    async def _resolve_dataset(self, request: web.Request) -> web.StreamResponse:
        file = self.files.get("{owner}/{name}/{revision}/{path}".format(**request.match_info))
        if file is None or file.absent:
            raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound"})
        content = file.content if file.sent is None else file.sent
        start = request.http_range.start or 0
        response = web.StreamResponse(status=206 if start else 200)
        response.headers.update({"ETag": f'"{file.digest}"', "X-Repo-Commit": request.match_info["revision"]})
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        response.content_length = len(content) - start
        await response.prepare(request)
        if request.method == "GET":
            await self._send(request, response, file, content[start:])
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, file: HubFile, content: bytes) -> None:
        half = len(content) // 2
        await response.write(content[:half])
        if file.cut and request.transport is not None:
            file.cut -= 1
            request.transport.close()
            return
        if file.held is not None:
            await asyncio.to_thread(file.held.wait, 30)
        await response.write(content[half:])


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
