"""A scheduled task of Windows that starts with the computer and is started again when it fails.

Not tried on Windows yet: definition and calls of `schtasks` follow the documentation of Microsoft. Wine registers and
removes such a task, and neither starts nor shows one.
"""

import csv
import getpass
import io
import os
import subprocess
import tempfile
from pathlib import Path

from pipeline.paths import LOG_FOLDER, ProjectPaths
from pipeline.service.definition import Service, task_xml
from pipeline.service.service_manager import ServiceStatus, call

_SCHTASKS = "schtasks"
_NOT_THERE = 1  #: exit code of `schtasks` if there is no such task
#: Columns of a row of `/Query /V /FO CSV`. The status is in Windows' language, the last result is a number.
_STATUS, _LAST_RESULT = 3, 6
_RUNNING = "267009"  #: SCHED_S_TASK_RUNNING


class ScheduledTask:
    """Implements `ServiceManager`."""

    def install(self, service: Service) -> list[str]:
        user = "\\".join(filter(None, (os.environ.get("USERDOMAIN"), getpass.getuser())))
        text = task_xml(service, user=user, command_line=subprocess.list2cmdline(service.arguments))
        with tempfile.TemporaryDirectory(prefix="task-") as folder:
            definition = Path(folder, "task.xml")
            definition.write_text(text, encoding="utf-16")  # what `schtasks` reads
            call(_SCHTASKS, "/Create", "/TN", service.name, "/XML", str(definition), "/F")
        call(_SCHTASKS, "/Run", "/TN", service.name)
        return [f"{service.name} runs, and starts with Windows; its log: {_log_of(service)}"]

    def uninstall(self, service: Service) -> list[str]:
        call(_SCHTASKS, "/End", "/TN", service.name, accepted=(0, 1))  # 1: it does not run, or is not there
        call(_SCHTASKS, "/Delete", "/TN", service.name, "/F")
        return [f"{service.name} is stopped and removed; {service.root} is as it was"]

    def status(self, service: Service) -> ServiceStatus:
        row = self._query(service)
        if not row:
            return ServiceStatus(False, False, (f"{service.name} is not installed",))
        state, result = (row[n] if len(row) > n else "unknown" for n in (_STATUS, _LAST_RESULT))
        lines = (f"{service.name}: {state}, last result {result}", f"log: {_log_of(service)}")
        return ServiceStatus(True, result == _RUNNING, lines)

    def _query(self, service: Service) -> list[str]:
        printed = call(_SCHTASKS, "/Query", "/TN", service.name, "/V", "/FO", "CSV", "/NH", accepted=(0, _NOT_THERE))
        return next((row for row in csv.reader(io.StringIO(printed)) if row), [])


def _log_of(service: Service) -> Path:
    return ProjectPaths(Path(service.root)).state / LOG_FOLDER
