"""The base of an image, which changes rarely: Debian's packages, its kernel, and an initramfs of a few drivers.

The kernel is booted directly and its initramfs loads every driver, so that the disk needs neither a boot loader nor
modules, and a guest is up in seconds also where its processor is emulated.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from vm_image.steps import inside, run

HERE = Path(__file__).parent
SUITE = "bookworm"
PACKAGES = ("busybox-static", "procps", "python3", "qemu-guest-agent", "samba")
#: In the order of their loading: disk, file system, network, the channel of the guest agent, random numbers.
DRIVERS = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "virtio_net", "virtio_console", "virtio_rng")
_UNNEEDED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/man/*", "/usr/share/locale/*")


def make_debian(root: Path) -> None:
    """Fills a folder. The packages come from where mmdebstrap has them from on this computer. Raises BuildError."""
    run(
        *("mmdebstrap", "--variant=apt", f"--include={','.join(PACKAGES)}", "--aptopt=APT::Install-Recommends false"),
        *(f"--dpkgopt=path-exclude={path}" for path in _UNNEEDED),
        *(f"--customize-hook={HERE / 'fetch_kernel'}", SUITE, str(root)),
    )
    _make_initramfs(root)


def _make_initramfs(root: Path) -> None:
    kernel, initramfs = root / "boot/kernel", root / "boot/initramfs"
    (version,) = (path.name for path in (kernel / "lib/modules").iterdir())
    inside(root, "/bin/busybox", "depmod", "-b", "/boot/kernel", version)
    modules = kernel / "lib/modules" / version
    for folder in ("bin", "dev", "disk"):
        (initramfs / folder).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", initramfs / "bin")
    shutil.copy(HERE / "initramfs_init", initramfs / "init")
    chosen = _with_dependencies((modules / "modules.dep").read_text(), DRIVERS)
    for path in chosen:
        shutil.copy(modules / path, initramfs)
    (initramfs / "modules").write_text("".join(f"/{Path(path).name}\n" for path in chosen))
    inside(root, "sh", "-ec", "cd /boot/initramfs && find . | busybox cpio -o -H newc | gzip > /boot/initrd.img")
    shutil.move(kernel / f"boot/vmlinuz-{version}", root / "boot/vmlinuz")
    shutil.rmtree(kernel)
    shutil.rmtree(initramfs)


def _with_dependencies(table: str, names: Iterable[str]) -> list[str]:
    """Paths of modules, each behind those that it needs. Source of `table`: modules.dep(5), `path: path path`."""
    needs = {path: rest.split() for path, _, rest in (line.partition(":") for line in table.splitlines())}
    path_of = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
    chosen: dict[str, None] = {}

    def choose(path: str) -> None:
        for need in needs[path]:
            choose(need)
        chosen[path] = None

    for name in names:
        if name in path_of:  # the others are part of the kernel itself
            choose(path_of[name])
    return list(chosen)
