"""A farm on another computer, over HTTP: `with connect("https://farm.example", token="env:FARM_TOKEN") as farm:`.

Owns: what a client does until a genome is counted once: requests, retries, submitting again, results as futures.
Not here: the operations (`pipeline.control.operations`), the server.
"""

from typing import TYPE_CHECKING, Any

from pipeline.errors import needs_extra

if TYPE_CHECKING:
    from pipeline.remote.farm import RemoteFarm, RemoteWorker, connect

__all__ = ["RemoteFarm", "RemoteWorker", "connect"]

if not TYPE_CHECKING:  # a type checker would accept any name of this module

    def __getattr__(name: str) -> Any:
        """Loads the client on first use, with its extra."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with needs_extra("remote"):
            from pipeline.remote import farm
        return getattr(farm, name)
