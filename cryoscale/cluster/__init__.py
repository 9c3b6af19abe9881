"""Where units run beyond the plain loop."""

from cryoscale.cluster.executor import DaskExecutor
from cryoscale.cluster.launch import executor_on

__all__ = ["DaskExecutor", "executor_on"]
