"""The side of a site in a Dask worker: a plugin that lets the worker's own server answer the host's messages.

The host installs it in a worker that does not have it. It uses neither Dask's tasks nor its scheduler.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from distributed import Worker
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin

from pipeline.machines.sites.site_server import SiteServer

OPERATION = "genome_pipeline_site"  #: its name among the operations of the worker's server
THREADS_MAX = 64  #: of a worker; one for each farm waits for changes

_ENDING = (Status.closing, Status.closed, Status.closing_gracefully)

_servers: dict[str, SiteServer] = {}  #: by the worker's address


class SitePlugin(WorkerPlugin):
    """Adds the operation to a worker."""

    def setup(self, worker: Worker) -> None:
        """Called by Dask in the worker's event loop. In a worker that ends it does nothing: the host gets no answer."""
        if OPERATION in worker.handlers or worker.status in _ENDING:
            return
        server = _servers[worker.address] = SiteServer(str(worker.name))
        threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="site")

        async def answer(message: bytes) -> bytes:
            return await asyncio.get_running_loop().run_in_executor(threads, server.answer, message)

        worker.handlers[OPERATION] = answer

    async def teardown(self, worker: Worker) -> None:
        """Called by Dask when the worker ends, and when the plugin is added once more: then the sites go on."""
        if worker.status not in _ENDING:
            return
        worker.handlers.pop(OPERATION, None)
        if (server := _servers.pop(worker.address, None)) is not None:
            await asyncio.to_thread(server.close)
