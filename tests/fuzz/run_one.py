"""Fuzzes one target in this process: `python -m tests.fuzz.run_one NAME [options of libFuzzer]`.

libFuzzer ends the process, so `tests.fuzz` starts one for each target.
"""

import sys

import atheris

#: Whose branches guide the fuzzer: this program, and the libraries in Python that read the same bytes for it.
INSTRUMENTED = ["hyperv_ops", "inbox_agent", "pipeline", "qemu", "smbprotocol", "tomllib", "winrm"]

if __name__ == "__main__":
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.target import load

        target = load(sys.argv[1])
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.run)
    atheris.Fuzz()
