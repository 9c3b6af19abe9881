"""Where units run beyond the plain loop."""

from cryoscale.cluster.executor import DaskExecutor

__all__ = ["DaskExecutor"]
