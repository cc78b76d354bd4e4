"""Train all experts of a run with the executor that the settings name: `execute(run, orders, grown, settings, …)`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from rostok.config import Settings
from rostok.runs import Run
from rostok.swarm.checkpoint import sweep, trained
from rostok.swarm.deadline import Deadline
from rostok.swarm.jobs import JobTable, Order
from rostok.swarm.messages import Plan
from rostok.swarm.supervisor import Outcome, supervise


def execute(run: Run, orders: Sequence[Order], grown: Collection[str], settings: Settings, *,
            tell: Callable[[str], None] = lambda text: None,
            on_step: Callable[[int, int], None] = lambda steps, tokens: None, until: Deadline | None = None,
            since: float | None = None) -> Outcome:
    """Train what is neither in its place nor trained. What is trained then lies in `experts/<name>.part` with its marker.

    Args:
        orders: all experts of the run, in the order of the queue.
        grown: names of those that are in their place, measured and all.
        tell, on_step, until, since: see `supervise`.

    Raises:
        ModelError: no worker can work.
        ClusterError: no Ray cluster answers at swarm.address.
    """
    with JobTable(run.jobs) as table:
        table.enter(orders)
        reconcile(run, table, grown)
        if not table.queued():
            return Outcome(tuple(table.rows()), (), "", False)
        plan = Plan(together=settings.training.together, pass_tokens=_pass_tokens())
        ahead = sum(row.state == "done" and row.name not in grown for row in table.rows())
        if settings.swarm.executor == "ray":
            from rostok.swarm.ray_cluster import cluster

            with cluster(run, settings, tell) as found:
                return supervise(table, found.slots, found.raise_worker, plan=plan, tell=tell, on_step=on_step, until=until,
                                 ahead=ahead, since=since)
        from rostok.swarm.local import LocalWorker, devices

        return supervise(table, devices(), lambda device, plan: LocalWorker(run, device, plan), plan=plan, tell=tell,
                         on_step=on_step, until=until, ahead=ahead, since=since)


def reconcile(run: Run, table: JobTable, grown: Collection[str]) -> None:
    """Bring the table in line with the files, after a kill of whoever wrote it, or after somebody deleted an expert."""
    for row in table.rows():
        part = run.part(row.name)
        done = row.name in grown or trained(part, row.made_from) is not None
        if done and part.is_dir():
            sweep(part, done=True)
        if row.state == "running":
            table.found(row.name, done, "its files were complete" if done else "the schedule was ended while it ran")
        elif done != (row.state == "done") and (done or row.state == "done"):
            table.found(row.name, done, "its files are complete" if done else "its files are gone")


def _pass_tokens() -> int:
    from rostok.swarm.fused import PASS_TOKENS

    return PASS_TOKENS


