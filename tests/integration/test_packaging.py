"""The image and the service: that they name what the program needs and what it understands."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from stator_proc import BINARY, BUILD, ROOT, SANITIZER, run_cli

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
UNIT = ROOT / "docs" / "examples" / "systemd" / "stator.service"


def packages(stage: str) -> set[str]:
    """What a stage of the Dockerfile installs."""
    text = re.search(r"apt-get install -y --no-install-recommends(.*?)&&", stage, re.S)[1]
    return set(text.replace("\\", " ").split())


def stages() -> tuple[str, str, str]:
    """The build, the image for native handlers, the one with Python."""
    build, native, python, last = re.split(r"^FROM .*$", DOCKERFILE, flags=re.M)[1:]
    assert last.strip() == ""
    return build, native, python


@pytest.mark.skipif(SANITIZER != "", reason="the libraries of a release")
@pytest.mark.skipif(shutil.which("dpkg") is None, reason="Debian's packages")
def test_runtime_packages():
    """The small stage has a package for each library that the program is linked with."""
    needed = subprocess.run(["objdump", "-p", str(BINARY)], capture_output=True, text=True,
                            check=True).stdout
    loaded = subprocess.run(["ldd", str(BINARY)], capture_output=True, text=True,
                            check=True).stdout
    for name in re.findall(r"NEEDED +(\S+)", needed):
        path = re.search(rf"{re.escape(name)} => (\S+)|^\s*(/\S*{re.escape(name)}) ", loaded, re.M)
        found = {os.path.realpath(path[1] or path[2]), path[1] or path[2]}
        found |= {p.removeprefix("/usr") for p in found}
        owner = subprocess.run(["dpkg", "-S", *found], capture_output=True, text=True,
                               check=False).stdout.split(":")[0]
        if owner in ("libc6", "libgcc-s1", ""):     # "": built on the spot
            continue
        assert owner in packages(stages()[1]), f"{name} is of {owner}"


def test_build_packages():
    """The first stage has what install-deps.sh wants for a build, tests aside."""
    script = (ROOT / "tests" / "support" / "install-deps.sh").read_text(encoding="utf-8")
    wanted = re.search(r"^build=\((.*?)\)", script, re.M | re.S)[1].split()
    libraries = {p for p in wanted if p.endswith("-dev") or p == "node-llhttp"} - {"libcmocka-dev"}
    assert libraries <= packages(stages()[0])


def test_image():
    """An unprivileged user, the ports of the defaults, and commands that exist."""
    runtime = stages()[1]
    assert re.search(r"^USER 1000:1000$", runtime, re.M)
    assert re.search(r"^EXPOSE 8080 8082 8090$", runtime, re.M)
    commands = re.findall(r"^  ([a-z]+) ", run_cli("--help").stdout, re.M)
    assert re.search(r'^HEALTHCHECK .* CMD \["stator", "health"\]$', runtime, re.M)
    assert {"health", "run"} <= set(commands)


def test_installed_parts(tmp_path):
    """What the program looks for beside itself is installed and copied into the image."""
    subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(tmp_path / "usr")],
                   capture_output=True, check=True)
    for part in ("bin/stator", "libexec/stator/stator-exec", "libexec/stator/stator-native-host"):
        assert os.access(tmp_path / "usr" / part, os.X_OK)
        folder = os.path.dirname(part) if part.startswith("libexec") else part
        assert f"COPY --from=build /out/usr/{folder} /usr/{folder}\n" in stages()[1]
    worker = tmp_path / "usr" / "lib" / "stator" / "python" / "stator"
    assert (worker / "_worker" / "__main__.py").is_file()
    assert list(worker.glob("_native.*.so"))
    assert "COPY --from=build /out/usr/lib/stator /usr/lib/stator\n" in stages()[2]
    assert stages()[2].rstrip().endswith("USER 1000:1000\n\n# What is built without --target.")


def test_unit():
    """systemd understands every line; the program understands its command lines."""
    text = UNIT.read_text(encoding="utf-8")
    for command, options in re.findall(r"/stator (\w+) (.*?)(?:;|$)", text, re.M):
        said = run_cli(command, "--help").stdout
        for option in re.findall(r"--[a-z-]+", options):
            assert option in said
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(UNIT)],
                          capture_output=True, text=True, timeout=60, check=False)
    complaints = [line for line in done.stderr.splitlines()
                  if Path(UNIT).name in line and "is not executable" not in line]
    assert not complaints
