"""`python -m tests.powershell`: the tests of the PowerShell scripts, in PowerShell 7 and in Windows PowerShell."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent / "run.ps1"
CLOSING = re.compile(r"\d+ passed, 0 failed, \d+ skipped")


def main() -> int:
    if sys.platform != "win32":
        print("test-powershell: skipped, because the tests need Windows")
        return 0
    if shutil.which("pwsh") is None:
        print("test-powershell: skipped, because there is no pwsh on the PATH")
        return 0
    failed = [shell for shell in ("pwsh", "powershell") if shutil.which(shell) and not passes(shell)]
    return 1 if failed else 0


def passes(shell: str) -> bool:
    """Whether every test passes in this PowerShell. One that ends without its counts has run nothing."""
    last = ""
    argv = [shell, "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File", str(RUN)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip()
    passed = process.returncode == 0 and CLOSING.fullmatch(last) is not None
    print(f"test-powershell: {shell}: {'passed' if passed else 'failed'}", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
