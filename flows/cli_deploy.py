"""Commands about runs that start by themselves: deploy to a Prefect server, or a schedule on this machine."""

from __future__ import annotations

import os
from typing import Annotated, Any

from cyclopts import Parameter

from flows.command import DEFAULT, Common, app, say, settings_of

NIGHTLY = "0 3 * * *"


@app.command
def deploy(
    *,
    pool: str = "modalign",
    cron: str = NIGHTLY,
    timezone: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULT,
) -> None:
    """Give a Prefect server the deployments: a nightly update, and assess, gc, plan and pipeline beside it.

    A worker of the pool runs them, on the machine where it is started. To have them run from one process instead:
    `modalign schedule`. Examples: `modalign deploy` · `modalign deploy --dry-run`

    Parameters
    ----------
    pool
        Name of the work pool; a process pool is made if it is missing.
    cron
        When to update: minute, hour, day of the month, month, day of the week.
    timezone
        Whose clock that means, as Europe/Berlin; without it this machine's.
    dry_run
        Print the deployments, and change nothing.
    """
    settings = settings_of(common)
    from flows.deployments import as_text, plan_of, rendered
    from flows.deployments import deploy as deploy_all

    plan = plan_of(settings, pool, cron, timezone)
    if dry_run:
        tree = rendered(plan)
        say(common, {"deploy": tree}, as_text(tree).rstrip())
        return
    lines = deploy_all(plan)
    following = f"prefect worker start --pool {pool}"
    told = [*lines, f"the filled copy: {plan.file}", f"next, in another terminal: {following}"]
    say(common, {"deploy": {"done": lines, "file": str(plan.file), "next": following}}, "\n".join(told))


@app.command
def schedule(
    *,
    cron: str | None = None,
    every: Annotated[float | None, Parameter(name="--every")] = None,
    timezone: str | None = None,
    common: Common = DEFAULT,
) -> None:
    """Update this workspace by a schedule, from this process, until Ctrl-C: for a single machine, without a worker.

    Where no Prefect server runs, one is started on this machine alone. After each update the spaces are assessed.
    Examples: `modalign schedule` · `modalign schedule --cron "30 1 * * *"` · `modalign schedule --every 3600`

    Parameters
    ----------
    cron
        When to update: minute, hour, day of the month, month, day of the week; without it at 3 every night.
    every
        Seconds from one update to the next, in place of a cron line.
    timezone
        Whose clock the cron line means, as Europe/Berlin; without it this machine's.
    """
    from config.errors import UserError

    if cron is not None and every is not None:
        raise UserError("schedule takes --cron or --every, one of them", "for instance: modalign schedule --every 3600")
    if every is not None and every < 1:
        raise UserError(f"--every {every:g} is no interval", "give seconds, for instance --every 3600")
    settings = settings_of(common)
    os.environ["MODALIGN_WORKSPACE"] = str(settings.workspace)  # what the runs go by
    from flows.environment import keep_results_in

    keep_results_in(settings.workspace / "results")
    from flows.deployments import plan_of
    from flows.serving import serve_here, server_for, to_serve

    plan = plan_of(settings, "", cron or NIGHTLY, timezone)
    with server_for(settings.workspace / "server.log") as url:
        deployments = to_serve(plan, every)
        how = f"every {every:g} s" if every is not None else f"at `{plan.cron}`, {plan.timezone} time"
        facts: dict[str, Any] = {"workspace": str(settings.workspace), "update": how, "server": url}
        page = url.removesuffix("/api")
        say(common, {"schedule": facts}, f"update of {settings.workspace} {how}; runs: {page}/runs; Ctrl-C ends it")
        serve_here(deployments, settings.workspace)
