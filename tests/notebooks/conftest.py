"""The finished demo run that notebooks are executed on."""

from tests.e2e.conftest import chain, demo

__all__ = ["chain", "demo"]
