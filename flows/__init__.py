"""What a person starts: flows, the command line, deployments.

Importing this package checks that none of our four names is shadowed and sets what Prefect reads at import.
"""

from flows.environment import prepare
from flows.guard import check_names

check_names()
prepare()
