"""A container engine as the tests use it: podman or docker, by its command line.

Containers are started by name, looked at, and removed: an engine behind another's socket is known
to lose the exit code of `run --rm`.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.adapters import ROOT, Call, ask, free_port

# More than any single command of the suite takes; a build from nothing is the longest.
TIMEOUT_S = 600
# The hardest limits that the images are made for.
LIMITS = (
    *("--memory", "256m", "--cpus", "1", "--pids-limit", "200", "--read-only"),
    *("--tmpfs", "/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
)


class EngineError(Exception):
    """A command of the engine failed; the text is what it printed."""


@dataclass(frozen=True)
class Finished:
    """A command that ended, in a container or of the engine itself."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Engine:
    """`program` is a name or path of podman or docker."""

    program: str

    def run(self, *arguments: str, stdin: str = "", timeout_s: float = TIMEOUT_S) -> Finished:
        """Whatever the exit code."""
        return run([self.program, *arguments], stdin=stdin, timeout_s=timeout_s)

    def output(self, *arguments: str) -> str:
        """What the command prints. Raises `EngineError` when it fails."""
        finished = self.run(*arguments)
        if finished.exit_code:
            raise EngineError(f"{' '.join(arguments)}: {finished.stdout}{finished.stderr}")
        return finished.stdout.strip()

    def image(self, name: str) -> dict[str, Any]:
        described: list[dict[str, Any]] = json.loads(self.output("image", "inspect", name))
        return described[0]

    def layers(self, name: str) -> list[str]:
        """The digests of the image's uncompressed layers, the base's first."""
        digests: list[str] = self.image(name)["RootFS"]["Layers"]
        return digests

    def finish(
        self, image: str, *command: str, options: Sequence[str] = (), stdin: str = ""
    ) -> Finished:
        """Runs a container to its end."""
        name = unique_name()
        try:
            ran = self.run("run", "--interactive", "--name", name, *options, image, *command,
                           stdin=stdin, timeout_s=120)  # fmt: skip
            exit_code = self.output("inspect", "--format", "{{.State.ExitCode}}", name)
            return Finished(int(exit_code), ran.stdout, ran.stderr)
        finally:
            self.remove(name)

    @contextmanager
    def container(
        self, image: str, *command: str, options: Sequence[str] = ()
    ) -> Iterator[Container]:
        """A `Container` that runs; it is removed at the end, killed if need be."""
        name = unique_name()
        try:
            self.output("run", "--detach", "--name", name, *options, image, *command)
            yield Container(self, name)
        finally:
            self.remove(name)

    @contextmanager
    def server(
        self, image: str, *command: str, options: Sequence[str] = LIMITS
    ) -> Iterator[tuple[Container, int]]:
        """A `Container` whose port 8080 is answered on the yielded port of 127.0.0.1."""
        port = free_port()
        published = ("--publish", f"127.0.0.1:{port}:8080", *options)
        with self.container(image, *command, options=published) as container:
            container.wait_until_open(port)
            yield container, port

    @contextmanager
    def files(self, image: str) -> Iterator[tarfile.TarFile]:
        """The image's file system, to be read once from its beginning to its end."""
        name = unique_name()
        try:
            self.output("create", "--name", name, image, "none")
            command = [self.program, "export", name]
            with (
                subprocess.Popen(command, stdout=subprocess.PIPE) as export,
                tarfile.open(fileobj=export.stdout, mode="r|") as archive,
            ):
                yield archive
        finally:
            self.remove(name)

    def remove(self, name: str) -> None:
        self.run("rm", "--force", "--volumes", name)


@dataclass(frozen=True)
class Container:
    """A container that was started under `name`, running or ended."""

    engine: Engine
    name: str

    def exec(self, *command: str, stdin: str = "") -> Finished:
        return self.engine.run("exec", "--interactive", self.name, *command, stdin=stdin)

    def logs(self) -> str:
        logs = self.engine.run("logs", self.name)
        return logs.stdout + logs.stderr

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(
            self.engine.output("inspect", "--format", "{{json .State}}", self.name)
        )
        return state

    def running(self) -> bool:
        return bool(self.state()["Running"])

    def terminate(self) -> None:
        self.engine.output("kill", "--signal", "TERM", self.name)

    def exit_code(self, timeout_s: float) -> int:
        """Waits for the end. Raises `TimeoutError` with the logs when it does not come."""
        end = time.monotonic() + timeout_s
        while self.running():
            if time.monotonic() > end:
                raise TimeoutError(f"still runs after {timeout_s:g} s:\n{self.logs()}")
            time.sleep(0.05)
        return int(self.state()["ExitCode"])

    def changes(self) -> set[str]:
        """What was added, changed and deleted in its root since the image: "A /path"."""
        return set(self.engine.output("diff", self.name).splitlines())

    def wait_until_open(self, port: int) -> None:
        """Until HTTP is answered on `port`, whatever the answer is."""
        for _ in range(300):
            if not self.running():
                raise EngineError(f"ended with {self.state()['ExitCode']}:\n{self.logs()}")
            try:
                ask(port, Call("GET", "/health/live"))
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        raise TimeoutError(f"no answer on port {port}:\n{self.logs()}")


def run(
    command: Sequence[str],
    *,
    stdin: str = "",
    timeout_s: float = TIMEOUT_S,
    environment: dict[str, str] | None = None,
) -> Finished:
    """Runs a command in the checkout, whatever its exit code."""
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | (environment or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    return Finished(ran.returncode, ran.stdout, ran.stderr)


def make(*arguments: str) -> Finished:
    """Runs targets of the Makefile, whoever called: flags of a `make` above do not count."""
    without = ["--unset=MAKEFLAGS", "--unset=MFLAGS", "--unset=MAKELEVEL"]
    return run(["env", *without, "make", *arguments])


def mounted(source: Path, target: str) -> tuple[str, str]:
    """The option that shows `source`, read-only, as `target`."""
    return "--volume", f"{source}:{target}:ro"


def unique_name() -> str:
    return f"classifier-test-{uuid4().hex[:12]}"


def find_program() -> str | None:
    """What ENGINE names, else the first engine on the PATH."""
    named = os.environ.get("ENGINE")
    return next(filter(None, map(shutil.which, [named] if named else ["docker", "podman"])), None)
