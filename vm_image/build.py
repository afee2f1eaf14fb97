"""Builds a guest image as root, once for equal inputs: the game and its agent on top of Debian, as one disk.

It decides what is in the guest and what the cache keys are. Nothing is mounted: the disk is made of a folder.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm_image.debian import make_debian
from vm_image.steps import BuildError, inside, run

HERE = Path(__file__).parent
PROJECT = HERE.parent
PYTHON = "3.11"  #: of the guest
DISK = "1G"
HOME = "/var/lib/inbox-agent"
#: The agent's user, and the host's SMB account; each may write its own folders and read the rest (docs/how-to/smb.md).
PLAYER, HOST = "player", "exchange"
OF_THE_HOST = ("/srv/exchange/inbox", "/srv/exchange/inbox/tmp")
OF_THE_PLAYER = ("/srv/exchange/outbox", "/srv/exchange/outbox/tmp", "/srv/exchange/status")
#: Programs that build an image, and their Debian packages.
TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "tar": "tar"}
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_OF_DEBIAN = ("debian.py", "fetch_kernel", "initramfs_init")


@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """The evaluator of the guest."""

    folder: Path
    python: str  #: `module:function`
    requirements: Sequence[str] = ()


def build(game: Game, cache: Path) -> Path:
    """The image's folder with `disk.raw`, `vmlinuz` and `initrd.img`; built if it is not in the cache.

    Raises:
        BuildError: this is not root, a tool is missing, or a step failed.
    """
    debian_key = _digest(HERE / name for name in _OF_DEBIAN)
    ours = [HERE / "build.py", *_files(HERE / "guest"), *_files(PROJECT / "inbox_agent"), PROJECT / "pyproject.toml"]
    key = _digest([*ours, *_files(game.folder)], debian_key, game.python, *game.requirements)
    image, debian = cache / f"vm-{key}", cache / f"debian-{debian_key}.tar"
    if image.is_dir():
        return image
    _require_tools()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as place:
        work = Path(place)
        if not debian.exists():
            make_debian(work / "debian")
            run("tar", "--create", "--numeric-owner", f"--directory={work / 'debian'}", f"--file={work / 'tar'}", ".")
            os.replace(work / "tar", debian)
        _make_image(work, debian, game)
        try:
            os.replace(work / "image", image)
        except OSError:
            if not image.is_dir():  # otherwise another build was faster
                raise
    return image


def _make_image(work: Path, debian: Path, game: Game) -> None:
    root, image, wheels = work / "root", work / "image", work / "wheels"
    for folder in (root, image):
        folder.mkdir()
    run("tar", "--extract", "--numeric-owner", f"--directory={root}", f"--file={debian}")
    for name in ("vmlinuz", "initrd.img"):
        shutil.move(root / "boot" / name, image / name)
    shutil.copytree(HERE / "guest", root, dirs_exist_ok=True)
    (root / "opt/busybox").mkdir()
    inside(root, "/bin/busybox", "--install", "-s", "/opt/busybox")
    inside(root, "useradd", "--system", "--create-home", f"--home-dir={HOME}", PLAYER)
    inside(root, "useradd", "--system", "--no-create-home", HOST)
    inside(root, "install", "--directory", "/srv/exchange")
    inside(root, "install", "--directory", f"--owner={HOST}", *OF_THE_HOST)
    inside(root, "install", "--directory", f"--owner={PLAYER}", *OF_THE_PLAYER)
    _install(root, wheels, game)
    inside(root, "python3", "-W", "ignore", "-m", "compileall", "-q", "/opt/farm")
    # The agent is not root: all users of the guest may read these files, whatever rights they had here.
    inside(root, "chmod", "-R", "a+rX,go-w", "/opt/farm", "/opt/busybox")
    inside(root, "chmod", "755", "/", "/etc", "/etc/init.d", "/etc/samba", "/opt", "/usr", "/usr/sbin")
    inside(root, "chmod", "644", "/etc/inittab", "/etc/samba/smb.conf", "/etc/hostname")
    run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image / "disk.raw"), DISK)


def _install(root: Path, wheels: Path, game: Game) -> None:
    farm = root / "opt/farm"
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={wheels}", str(PROJECT))
    (agent,) = wheels.iterdir()
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", f"--target={farm / 'lib'}"),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"),
        *(f"--platform={platform}" for platform in _PLATFORMS),
        *(str(agent), *game.requirements),
    )
    shutil.copytree(game.folder, farm / "game", ignore=shutil.ignore_patterns("__pycache__"))
    (farm / "agent.toml").write_text(f'[evaluator]\npython = "{game.python}"\n')
    (root / "etc/hostname").write_text("template\n")


def _require_tools() -> None:
    if os.name != "posix" or os.geteuid() != 0:
        raise BuildError("an image is built by root, on Linux")
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing (Debian: apt-get install {package})")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _digest(paths: Iterable[Path], *also: str) -> str:
    """A digest of the files' bytes and names, independent of where the checkout and the game's folder are."""
    digest = hashlib.sha256(repr(also).encode())
    for path in paths:
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
